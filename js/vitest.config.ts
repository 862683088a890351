import { defineConfig } from "vitest/config";
import { viteDrawers } from "./drawerModules.mjs";

export default defineConfig({ plugins: [viteDrawers], test: { include: ["tests/**/*.test.{ts,tsx}"] } });
