import type { DrawerManifest } from "../../core/drawer";

const manifest: DrawerManifest = {
  name: "notes",
  label: "Notes",
  order: 70,
  needsKernel: false,
  // An offline page may hold the notes of another run.
  isOffered: ({ notes }, session) => !session.isOffline || notes.value.length > 0 || session.canAsk("notes"),
  opensItself: ({ store }) => (store.shown.value?.notes.value.length ?? 0) > 0,
};

export default manifest;
