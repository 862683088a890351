import type { DrawerManifest } from "../../core/drawer";
import { ATTENTION } from "../../core/host";

const manifest: DrawerManifest = {
  name: "methods",
  label: "Methods",
  order: 20,
  needsKernel: true,
  // An offline page may hold neither, and nothing can be computed there.
  isOffered: (_, session) => session.canAsk("saliency") || session.canAsk("relevance"),
  // Python wants the map of an explain method on the stage.
  opensItself: ({ traits, connected }) => connected.value && traits.overlay.value !== ATTENTION,
};

export default manifest;
