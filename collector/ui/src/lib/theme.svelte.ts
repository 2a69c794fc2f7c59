//! Dark or light: as the system has it, until somebody chooses.

export type Theme = 'dark' | 'light';

const KEY = 'pitwatch.theme';
const system = matchMedia('(prefers-color-scheme: light)');

function chosen(): Theme | undefined {
  const kept = localStorage.getItem(KEY);
  return kept === 'dark' || kept === 'light' ? kept : undefined;
}

const current = (): Theme => chosen() ?? (system.matches ? 'light' : 'dark');

let name = $state<Theme>(current());

function apply(): void {
  name = current();
  document.documentElement.dataset.theme = name;
}

export const theme = {
  get name() {
    return name;
  },
  toggle(): void {
    localStorage.setItem(KEY, name === 'dark' ? 'light' : 'dark');
    apply();
  },
};

export function start(): void {
  apply();
  system.addEventListener('change', apply);
}
