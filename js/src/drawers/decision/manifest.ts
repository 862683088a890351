import type { DrawerManifest } from "../../core/drawer";

const manifest: DrawerManifest = {
  name: "decision",
  label: "Decision",
  order: 40,
  needsKernel: true,
};

export default manifest;
