import type { DrawerManifest } from "../../core/drawer";

const manifest: DrawerManifest = {
  name: "places",
  label: "Places",
  title: "Places: which places a place of the image attends to",
  order: 12,
  needsKernel: true,
  isOffered: ({ info, hasMaps }, session) => hasMaps && info.frames === 1 && session.canAsk("results"),
};

export default manifest;
