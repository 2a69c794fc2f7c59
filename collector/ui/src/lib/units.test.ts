import { expect, it } from 'vitest';
import { figures, format, unitOf } from './units';

it('numbers have three significant figures', () => {
  expect([0, 1, 12.345, 0.98765, 1234.5, 0.012345, 100, -3.14159].map(figures)).toEqual(['0', '1', '12.3', '0.988', '1235', '0.0123', '100', '-3.14']);
});

it('units are the field’s', () => {
  expect(format(0.1234, 'ratio')).toBe('12.3%');
  expect(format(1536, 'bytes')).toBe('1.5 KiB');
  expect(format(41.2 * 1024 * 1024, 'bytes/s')).toBe('41.2 MiB/s');
  expect(format(0.0042, 'seconds')).toBe('4.2 ms');
  expect(format(10_800, 'seconds')).toBe('3 h');
  expect(format(1234, 'count')).toBe('1.23k');
  expect(format(null, 'bytes')).toBe('–');
  expect(format(Infinity, 'ratio')).toBe('∞');
});

it('units are guessed from queries', () => {
  expect(unitOf('rate(node_network_receive_bytes_total[1m])')).toBe('bytes/s');
  expect(unitOf('node_memory_MemFree_bytes')).toBe('bytes');
  expect(unitOf('pitwatch_process_cpu_ratio')).toBe('ratio');
  expect(unitOf('rate(node_intr_total[1m])')).toBe('/s');
});
