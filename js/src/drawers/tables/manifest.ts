import type { DrawerManifest } from "../../core/drawer";

const manifest: DrawerManifest = {
  name: "tables",
  label: "Tables",
  order: 60,
  needsKernel: false,
};

export default manifest;
