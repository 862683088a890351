import type { DrawerManifest } from "../../core/drawer";

const manifest: DrawerManifest = {
  name: "runs",
  label: "Runs",
  order: 50,
  needsKernel: true,
  isOffered: (_, session) => session.canAsk("runs"),
};

export default manifest;
