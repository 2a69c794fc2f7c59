//! Numbers as people read them: three significant figures and the unit that the field uses.

export type Unit = 'ratio' | 'bytes' | 'bytes/s' | 'seconds' | 'count' | '/s';

const BINARY = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
const DECIMAL = ['', 'k', 'M', 'G', 'T'];

/** Three significant figures without an exponent. */
export function figures(value: number): string {
  if (value === 0) return '0';
  const size = Math.abs(value);
  if (size >= 1e15 || size < 1e-4) return value.toExponential(1);
  const digits = Math.max(0, 2 - Math.floor(Math.log10(size)));
  return trimmed(value.toFixed(Math.min(digits, 6)));
}

function trimmed(text: string): string {
  return text.includes('.') ? text.replace(/\.?0+$/, '') : text;
}

function scaled(value: number, base: number, names: readonly string[]): [string, string] {
  let at = 0;
  let left = value;
  while (Math.abs(left) >= base && at < names.length - 1) {
    left /= base;
    at += 1;
  }
  return [figures(left), names[at] ?? ''];
}

function seconds(value: number): [string, string] {
  const size = Math.abs(value);
  if (size === 0) return ['0', 's'];
  if (size < 1e-3) return [figures(value * 1e6), 'µs'];
  if (size < 1) return [figures(value * 1e3), 'ms'];
  if (size < 120) return [figures(value), 's'];
  if (size < 7200) return [figures(value / 60), 'min'];
  if (size < 172_800) return [figures(value / 3600), 'h'];
  return [figures(value / 86_400), 'd'];
}

/** The number and its unit apart. */
export function parts(value: number | null | undefined, unit: Unit): [string, string] {
  if (value === null || value === undefined || Number.isNaN(value)) return ['–', ''];
  if (!Number.isFinite(value)) return [value > 0 ? '∞' : '−∞', ''];
  switch (unit) {
    case 'ratio':
      return [figures(value * 100), '%'];
    case 'bytes':
      return scaled(value, 1024, BINARY);
    case 'bytes/s': {
      const [number, name] = scaled(value, 1024, BINARY);
      return [number, `${name}/s`];
    }
    case 'seconds':
      return seconds(value);
    case '/s': {
      const [number, name] = scaled(value, 1000, DECIMAL);
      return [number, `${name}/s`];
    }
    case 'count':
      return scaled(value, 1000, DECIMAL);
  }
}

export function format(value: number | null | undefined, unit: Unit): string {
  const [number, name] = parts(value, unit);
  if (name === '') return number;
  return unit === 'ratio' || (unit === 'count' && name !== '') ? `${number}${name}` : `${number} ${name}`;
}

/** The unit that a query's metric names, by the habits of their endings. */
export function unitOf(query: string): Unit {
  const isRate = /\b(i?rate|deriv)\s*\(/.test(query);
  if (/_ratio\b|percent/.test(query)) return 'ratio';
  if (/_bytes(_total)?\b/.test(query)) return isRate || /bytes_per_second/.test(query) ? 'bytes/s' : 'bytes';
  if (/_seconds(_total)?\b/.test(query)) return isRate ? 'count' : 'seconds';
  return isRate ? '/s' : 'count';
}
