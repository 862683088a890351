import type { DrawerManifest } from "../../core/drawer";

const manifest: DrawerManifest = {
  name: "compare",
  label: "Compare",
  order: 30,
  needsKernel: true,
  isOffered: (_, session) => session.canAsk("packed"),
  // Python has named a run to compare with.
  opensItself: ({ traits, connected }) => connected.value && traits._comparison_run.value !== "",
};

export default manifest;
