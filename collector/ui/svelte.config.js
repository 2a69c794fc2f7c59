import { vitePreprocess } from '@sveltejs/vite-plugin-svelte';

export default {
  preprocess: vitePreprocess(),
  // Styles in the page's own file: the policy allows none that a script writes.
  compilerOptions: { runes: true, css: 'external' },
};
