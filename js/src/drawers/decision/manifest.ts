import type { DrawerManifest } from "../../core/drawer";

const manifest: DrawerManifest = {
  name: "decision",
  label: "Decision",
  order: 40,
  needsKernel: true,
  isOffered: (_, session) => session.canAsk("decisions"),
};

export default manifest;
