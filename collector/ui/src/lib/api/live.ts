//! Values second by second: server-sent events of the collector.
//!
//! A browser has few connections to one address, and hidden tabs need none: a stream is closed while its tab is hidden.

import type { Labels } from './types';

export interface LiveSample {
  labels: Labels;
  value: string;
}

export interface Beat {
  time_ms: number;
  results: LiveSample[][];
  errors?: Record<string, string>;
}

export type LiveState = 'opening' | 'live' | 'lost';

const RETRY_MS = 3000;

/** Watches queries until the function that it gives is called. */
export function live(queries: readonly string[], onBeat: (beat: Beat) => void, onState: (state: LiveState) => void): () => void {
  const params = new URLSearchParams(queries.map((query) => ['query', query]));
  let source: EventSource | undefined;
  let retry: ReturnType<typeof setTimeout> | undefined;

  function open(): void {
    close();
    if (document.hidden || queries.length === 0) return;
    onState('opening');
    source = new EventSource(`/api/v1/pitwatch/live?${params}&step=1`);
    source.onmessage = (event: MessageEvent<string>) => {
      onState('live');
      onBeat(JSON.parse(event.data) as Beat);
    };
    source.onerror = () => {
      onState('lost');
      // A refusal closes it for good: try again, as the session may be a new one.
      if (source?.readyState === EventSource.CLOSED) retry = setTimeout(open, RETRY_MS);
    };
  }

  function close(): void {
    clearTimeout(retry);
    source?.close();
    source = undefined;
  }

  document.addEventListener('visibilitychange', open);
  open();
  return () => {
    document.removeEventListener('visibilitychange', open);
    close();
  };
}
