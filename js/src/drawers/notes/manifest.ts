import type { DrawerManifest } from "../../core/drawer";

const manifest: DrawerManifest = {
  name: "notes",
  label: "Notes",
  order: 70,
  needsKernel: false,
  isOffered: ({ notes }, { isOffline }) => !isOffline || notes.value.length > 0,
  opensItself: ({ store }) => (store.shown.value?.notes.value.length ?? 0) > 0,
};

export default manifest;
