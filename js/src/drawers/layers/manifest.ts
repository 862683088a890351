import type { DrawerManifest } from "../../core/drawer";

const manifest: DrawerManifest = {
  name: "layers",
  label: "Layers",
  order: 10,
  needsKernel: true,
  isOffered: ({ info, mapped }) => info.layers > 0 && mapped,
};

export default manifest;
