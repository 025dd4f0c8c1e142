import { defineConfig } from "vite";

// One page, no network but the node that serves it: nothing is inlined that the node's
// content security policy would refuse.
export default defineConfig({
  build: { target: "es2022", assetsInlineLimit: 0, modulePreload: false, sourcemap: false },
});
