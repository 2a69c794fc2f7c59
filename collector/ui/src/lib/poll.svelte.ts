//! What is asked again and again: the last answer stays while the next is on its way or does not come.

import { Problem } from './api/client';

export interface Polled<T> {
  readonly data: T | undefined;
  readonly problem: Problem | undefined;
  /** When the data came. */
  readonly at: number;
  refresh(): void;
}

const BACKOFF_MAX = 30_000;

/**
 * Asks while the component lives and its tab is seen; at once again when something that `ask` read has changed.
 * `everyMs` of 0 asks once.
 */
export function poll<T>(ask: (signal: AbortSignal) => Promise<T>, everyMs: number): Polled<T> {
  let data = $state.raw<T>();
  let problem = $state.raw<Problem>();
  let at = $state(0);
  let again = $state(0);

  $effect(() => {
    void again;
    const stop = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    let failures = 0;

    async function run(answer: Promise<T>): Promise<void> {
      try {
        data = await answer;
        at = Date.now();
        problem = undefined;
        failures = 0;
      } catch (error) {
        if (stop.signal.aborted) return;
        problem = error instanceof Problem ? error : new Problem('failed', String(error));
        failures += 1;
      }
      if (stop.signal.aborted) return;
      const patience = failures > 0 ? Math.min(BACKOFF_MAX, Math.max(everyMs, 1000) * 2 ** Math.min(failures - 1, 5)) : everyMs;
      const lost = problem?.kind === 'unreachable' || problem?.kind === 'failed';
      if (everyMs > 0 || lost) timer = setTimeout(next, patience);
    }

    function next(): void {
      if (document.hidden) timer = setTimeout(next, 1000);
      else void run(ask(stop.signal));
    }

    void run(ask(stop.signal));
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  });

  return {
    get data() {
      return data;
    },
    get problem() {
      return problem;
    },
    get at() {
      return at;
    },
    refresh: () => void (again += 1),
  };
}
