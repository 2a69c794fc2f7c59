//! The address is the state: which page, of what, in which view. Everything that a link should keep is in it.

interface Place {
  path: string;
  params: URLSearchParams;
}

const here = (): Place => ({ path: location.pathname, params: new URLSearchParams(location.search) });

let place = $state.raw<Place>(here());

export const route = {
  get path() {
    return place.path;
  },
  get params() {
    return place.params;
  },
  get(name: string): string {
    return place.params.get(name) ?? '';
  },
};

export type Params = Record<string, string | undefined>;

/** The address of a page. */
export function address(path: string, params: Params = {}): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) if (value) query.set(name, value);
  const text = query.toString();
  return text ? `${path}?${text}` : path;
}

export function go(to: string): void {
  history.pushState(null, '', to);
  place = here();
  window.scrollTo(0, 0);
}

/** Changes parameters of the page that is shown; `undefined` and an empty text take one away. */
export function set(params: Params, keepBack = false): void {
  const query = new URLSearchParams(place.params);
  for (const [name, value] of Object.entries(params)) {
    if (value) query.set(name, value);
    else query.delete(name);
  }
  const to = address(place.path, Object.fromEntries(query));
  if (keepBack) history.pushState(null, '', to);
  else history.replaceState(null, '', to);
  place = here();
}

/** Links of our own pages change the page without a reload. */
export function start(): void {
  addEventListener('popstate', () => (place = here()));
  document.addEventListener('click', (event) => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = event.composedPath().find((target): target is HTMLAnchorElement => target instanceof HTMLAnchorElement);
    if (!link || link.target || link.hasAttribute('download') || link.origin !== location.origin) return;
    if (link.pathname.startsWith('/api/') || link.pathname === '/plain') return;
    event.preventDefault();
    if (link.href !== location.href) go(link.href);
  });
}
