import type { DrawerManifest } from "../../core/drawer";

const manifest: DrawerManifest = {
  name: "frames",
  label: "Frames",
  title: "Frames of the video, and when each word is attended to",
  order: 5,
  needsKernel: false,
  isOffered: ({ info }) => info.frames > 1,
  opensItself: ({ store }) => (store.shown.value?.info.frames ?? 1) > 1,
};

export default manifest;
