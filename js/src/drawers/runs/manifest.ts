import type { DrawerManifest } from "../../core/drawer";

const manifest: DrawerManifest = {
  name: "runs",
  label: "Runs",
  order: 50,
  needsKernel: true,
};

export default manifest;
