// The drawers as an offline page has them: the views are here from the start.

import manifests from "virtual:drawer-manifests";
import * as core from "../src/app/coreExports";
import type { Context } from "../src/core/context";
import type { DrawerSource } from "../src/core/drawer";
import * as script from "../src/drawers";

export const SOURCE = { manifests, script, core } satisfies DrawerSource<Context>;
