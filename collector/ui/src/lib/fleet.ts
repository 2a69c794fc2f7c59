//! How the fleet is sorted, filtered and grouped.

import type { Host } from './api/types';
import { ago } from './time';

/** The labels by which one looks at a fleet. */
export const FACETS = ['role', 'env', 'region', 'provider'] as const;
export type Facet = (typeof FACETS)[number];

export type Wanted = Record<Facet, string> & { q: string };

/** Every word must be in the name or in a label. */
export function matches(host: Host, wanted: Wanted): boolean {
  if (FACETS.some((facet) => wanted[facet] !== '' && host.labels[facet] !== wanted[facet])) return false;
  const words = wanted.q.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return true;
  const text = [host.name, ...Object.entries(host.labels).map(([name, value]) => `${name}=${value}`), ...host.alerts.flatMap((alert) => [alert.name, alert.summary ?? ''])].join(' ').toLowerCase();
  return words.every((word) => text.includes(word));
}

export function valuesOf(hosts: readonly Host[], facet: Facet): string[] {
  return [...new Set(hosts.map((host) => host.labels[facet] ?? '').filter(Boolean))].sort();
}

export interface Group {
  name: string;
  hosts: Host[];
}

/** By role and region, the groups with the worst hosts first, then by name. Within one, by name: nothing moves about. */
export function grouped(hosts: readonly Host[]): Group[] {
  const groups = new Map<string, Host[]>();
  for (const host of hosts) {
    const name = [host.labels['role'], host.labels['region']].filter(Boolean).join(' · ') || 'other hosts';
    const list = groups.get(name);
    if (list) list.push(host);
    else groups.set(name, [host]);
  }
  const list = [...groups].map(([name, members]) => ({ name, hosts: members.sort((a, b) => compare(a.name, b.name)) }));
  return list.sort((a, b) => compare(a.name, b.name));
}

/** Names with numbers in the order of the numbers. */
const collator = new Intl.Collator('en', { numeric: true });
export const compare = (a: string, b: string): number => collator.compare(a, b);

export const isCritical = (host: Host): boolean => host.alerts.some((alert) => alert.severity === 'critical' || alert.severity === 'page');

/** What is wrong with a host, in a few words. */
export function complaint(host: Host, now: number): string {
  if (host.alerts.length > 0) return host.alerts.map((alert) => alert.summary || alert.name).join(', ');
  if (host.state === 'silent') return host.last_sample_ms === null ? 'never sent anything' : `no data, last seen ${ago(host.last_sample_ms, now)}`;
  return 'well';
}
