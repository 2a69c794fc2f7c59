//! Sparklines of the hosts that are on the screen: asked together, kept for a while.

import { range } from './api/query';
import { number } from './charts/frame';
import { HOUR, MINUTE, aligned } from './time';

const STEP_SECS = 120;
const KEEP_MS = 2 * MINUTE;
/** Hosts of one query. */
const HOSTS_MAX = 60;

type Values = readonly (number | null)[];

export class Sparks {
  #known = $state.raw(new Map<string, Values>());
  #asked = new Map<string, number>();

  of(host: string): Values {
    return this.#known.get(host) ?? [];
  }

  /** Loads what is missing or old of these. */
  async want(hosts: readonly string[]): Promise<void> {
    const now = Date.now();
    const missing = hosts.filter((host) => now - (this.#asked.get(host) ?? 0) > KEEP_MS).slice(0, HOSTS_MAX);
    if (missing.length === 0) return;
    for (const host of missing) this.#asked.set(host, now);
    const names = missing.map((host) => host.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')).join('|');
    const at = aligned({ from: now - HOUR, to: now }, STEP_SECS);
    const query = `1 - sum by (instance) (rate(node_cpu_seconds_total{mode=~"idle|iowait",instance=~${JSON.stringify(names)}}[2m])) / count by (instance) (node_cpu_seconds_total{mode="idle",instance=~${JSON.stringify(names)}})`;
    try {
      const series = await range(query, at, STEP_SECS);
      const next = new Map(this.#known);
      const count = Math.round((at.to - at.from) / 1000 / STEP_SECS) + 1;
      for (const one of series) {
        const values = new Array<number | null>(count).fill(null);
        for (const [time, text] of one.values) values[Math.round((time - at.from / 1000) / STEP_SECS)] = number(text);
        next.set(one.metric['instance'] ?? '', values);
      }
      this.#known = next;
    } catch {
      // A shape beside the numbers: without it nothing is wrong, and the next look asks again.
      for (const host of missing) this.#asked.delete(host);
    }
  }
}
