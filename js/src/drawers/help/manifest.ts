import type { DrawerManifest } from "../../core/drawer";

const manifest: DrawerManifest = {
  name: "help",
  label: "?",
  title: "Help: keys and gestures",
  order: 90,
  needsKernel: false,
};

export default manifest;
