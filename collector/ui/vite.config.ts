import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  plugins: [svelte()],
  build: {
    outDir: 'build',
    target: 'es2022',
    // Small files as data: addresses would need a looser policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 700,
  },
  server: {
    // `npm run dev` beside a collector on its usual port.
    proxy: { '/api': 'http://127.0.0.1:4718' },
  },
  test: { include: ['src/**/*.test.ts'] },
});
