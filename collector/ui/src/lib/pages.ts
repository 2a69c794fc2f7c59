//! The pages: their places in the navigation and on the keyboard. Logs will stand between Events and Agents, at `g l`.

export interface Entry {
  path: string;
  name: string;
  /** The key after `g`. */
  key: string;
}

export const NAVIGATION: readonly Entry[] = [
  { path: '/', name: 'Fleet', key: 'h' },
  { path: '/alerts', name: 'Alerts', key: 'a' },
  { path: '/explore', name: 'Explore', key: 'x' },
  { path: '/events', name: 'Events', key: 'e' },
  { path: '/agents', name: 'Agents', key: 'n' },
  { path: '/status', name: 'Status', key: 's' },
];

export type Page =
  | { page: 'fleet' }
  | { page: 'host'; name: string }
  | { page: 'alerts' }
  | { page: 'alert'; fingerprint: string }
  | { page: 'incident'; id: string }
  | { page: 'explore' }
  | { page: 'events' }
  | { page: 'agents' }
  | { page: 'status' }
  | { page: 'nowhere' };

/** Which page an address is of. */
export function pageOf(path: string): Page {
  const [, first = '', second, ...rest] = path.split('/');
  if (rest.length > 0) return { page: 'nowhere' };
  if (second === undefined || second === '') {
    switch (first) {
      case '':
      case 'hosts':
        return { page: 'fleet' };
      case 'alerts':
      case 'explore':
      case 'events':
      case 'agents':
      case 'status':
        return { page: first };
      case 'silences':
        return { page: 'alerts' };
      case 'graph':
        return { page: 'explore' };
      default:
        return { page: 'nowhere' };
    }
  }
  const name = decoded(second);
  if (name === undefined) return { page: 'nowhere' };
  switch (first) {
    case 'hosts':
      return { page: 'host', name };
    case 'alerts':
      return { page: 'alert', fingerprint: name };
    case 'incidents':
      return { page: 'incident', id: name };
    default:
      return { page: 'nowhere' };
  }
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

export const hostPath = (name: string): string => `/hosts/${encodeURIComponent(name)}`;
export const alertPath = (fingerprint: string): string => `/alerts/${encodeURIComponent(fingerprint)}`;
export const incidentPath = (id: number): string => `/incidents/${id}`;
