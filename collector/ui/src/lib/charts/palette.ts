//! Colours of series: Okabe and Ito's, which survive colour blindness, a little lighter on dark and darker on light.

import type { Theme } from '../theme.svelte';

const DARK = ['#56b4e9', '#e69f00', '#2ec49a', '#f0e442', '#d98cb8', '#ff8a4c', '#9db4ff', '#bdb7ae'];
const LIGHT = ['#0072b2', '#b07300', '#00795a', '#8a7d00', '#a2537f', '#c04a00', '#4a5fc1', '#6b6660'];

export function colour(nth: number, theme: Theme): string {
  const list = theme === 'dark' ? DARK : LIGHT;
  return list[nth % list.length] ?? '#888';
}

export function ink(theme: Theme): { text: string; grid: string; threshold: string; cursor: string } {
  return theme === 'dark'
    ? { text: '#a8a199', grid: '#2c2926', threshold: '#ff8f85', cursor: '#ece8e3' }
    : { text: '#655f58', grid: '#e6e1da', threshold: '#b3261e', cursor: '#1f1d1b' };
}
