import { defineConfig } from "vite";

// Two pages, a node's and the authority's; no network but the server that serves them: nothing is
// inlined that its content security policy would refuse.
export default defineConfig({
  build: {
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: false,
    sourcemap: false,
    rollupOptions: { input: ["index.html", "authority.html"] },
  },
});
