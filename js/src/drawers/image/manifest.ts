import type { DrawerManifest } from "../../core/drawer";

const manifest: DrawerManifest = {
  name: "image",
  label: "Image",
  title: "An image that exists: heat maps of words on it",
  order: 45,
  needsKernel: true,
  isOffered: (_, session) => session.canAsk("image") && session.traits._can_run.value,
};

export default manifest;
