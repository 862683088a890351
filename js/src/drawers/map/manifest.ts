import type { DrawerManifest } from "../../core/drawer";

const manifest: DrawerManifest = {
  name: "map",
  label: "Map",
  title: "Why the chosen word's map looks as it does: what it averages, and what it resembles",
  order: 15,
  needsKernel: false,
  isOffered: ({ hasMaps }) => hasMaps,
};

export default manifest;
