// Made by drawerModules.mjs from the folders beside this file.

declare module "virtual:drawer-manifests" {
  const manifests: readonly import("../core/drawer").DrawerManifest[];
  export default manifests;
}

declare module "virtual:drawer-views" {
  const views: import("../core/drawer").DrawerViews<import("../core/context").Context>;
  export default views;
}
