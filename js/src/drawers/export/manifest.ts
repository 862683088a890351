import type { DrawerManifest } from "../../core/drawer";

const manifest: DrawerManifest = {
  name: "export",
  label: "Export",
  order: 80,
  needsKernel: true,
};

export default manifest;
