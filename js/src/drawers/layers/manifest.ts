import type { DrawerManifest } from "../../core/drawer";

const manifest: DrawerManifest = {
  name: "layers",
  label: "Layers",
  order: 10,
  needsKernel: true,
  isOffered: ({ info, hasMaps }) => info.layers.length > 0 && hasMaps,
};

export default manifest;
