//! The charts of a host in the order in which one looks for a cause: use, saturation and errors of CPU, memory, disks and
//! network. Each says in two lines what it is and when to worry.

import type { Labels } from '../api/types';
import { quoted } from '../api/query';
import type { Unit } from '../units';

export interface Question {
  query: string;
  label: (labels: Labels) => string;
}

export interface Panel {
  id: string;
  title: string;
  unit: Unit;
  what: string;
  worry: string;
  isStacked?: boolean;
  atLeast?: number;
  /** The questions for a host; `window` is the length of the rates, such as `60s`. */
  ask: (instance: string, window: string) => Question[];
}

const REAL_FS = 'fstype!~"tmpfs|devtmpfs|ramfs|squashfs|iso9660|erofs|efivarfs|nsfs|overlay|fuse.*"';
const named = (name: string) => () => name;
const by = (label: string, before = '') => (labels: Labels) => `${before}${labels[label] ?? ''}`;
const byName =
  (names: Record<string, string>) =>
  (labels: Labels): string =>
    names[labels['__name__'] ?? ''] ?? labels['__name__'] ?? '';

function select(instance: string, more = ''): string {
  return `{instance=${quoted(instance)}${more ? `,${more}` : ''}}`;
}

function rate(metric: string, instance: string, window: string, more = ''): string {
  return `rate(${metric}${select(instance, more)}[${window}])`;
}

export const PANELS: readonly Panel[] = [
  {
    id: 'cpu',
    title: 'CPU by mode',
    unit: 'ratio',
    what: 'The share of all cores that worked, and for what. iowait is waiting for disks, steal is what the provider withheld.',
    worry: 'Worry when it stays near 100%, when system outgrows user, or when steal is more than a few per cent.',
    isStacked: true,
    atLeast: 1,
    ask: (instance, window) => [
      {
        query: `sum by (mode) (${rate('node_cpu_seconds_total', instance, window, 'mode!="idle"')}) / scalar(count(node_cpu_seconds_total${select(instance, 'mode="idle"')}))`,
        label: by('mode'),
      },
    ],
  },
  {
    id: 'pressure',
    title: 'Pressure',
    unit: 'ratio',
    what: 'The share of time in which at least one task waited for a core, for memory or for a disk (PSI).',
    worry: 'Worry when one of them rises with complaints of slowness: it names what is short before it is used up.',
    atLeast: 0.1,
    ask: (instance, window) =>
      ['cpu', 'memory', 'io'].map((what) => ({
        query: `sum(${rate(`node_pressure_${what}_waiting_seconds_total`, instance, window)})`,
        label: named(what),
      })),
  },
  {
    id: 'queue',
    title: 'Run queue',
    unit: 'count',
    what: 'Tasks that run or could run, tasks that wait for a disk, and the load of one minute.',
    worry: 'Worry when more tasks are ready than there are cores, for minutes.',
    ask: (instance) => [
      {
        query: `{__name__=~"node_load1|node_procs_running|node_procs_blocked",instance=${quoted(instance)}}`,
        label: byName({ node_load1: 'load 1 min', node_procs_running: 'running', node_procs_blocked: 'blocked' }),
      },
    ],
  },
  {
    id: 'memory',
    title: 'Memory',
    unit: 'bytes',
    what: 'What programs cannot have any more, and the whole. Caches count as free, as the kernel gives them back.',
    worry: 'Worry when used nears the total, or when swap is used while pressure of memory rises.',
    ask: (instance) => [
      { query: `node_memory_MemTotal_bytes${select(instance)} - node_memory_MemAvailable_bytes${select(instance)}`, label: named('used') },
      { query: `node_memory_SwapTotal_bytes${select(instance)} - node_memory_SwapFree_bytes${select(instance)}`, label: named('swap used') },
      { query: `node_memory_MemTotal_bytes${select(instance)}`, label: named('total') },
    ],
  },
  {
    id: 'disk-busy',
    title: 'Disks busy',
    unit: 'ratio',
    what: 'The share of time in which a device had at least one request.',
    worry: 'Worry when it stays near 100% together with rising latency; fast devices can serve more even then.',
    atLeast: 0.1,
    ask: (instance, window) => [{ query: rate('node_disk_io_time_seconds_total', instance, window), label: by('device') }],
  },
  {
    id: 'disk-latency',
    title: 'Disk latency',
    unit: 'seconds',
    what: 'How long a read or a write took on average, its wait in the queue among it.',
    worry: 'Worry above some milliseconds on flash and above 20 ms on spinning disks.',
    ask: (instance, window) => [
      {
        query: `(${rate('node_disk_read_time_seconds_total', instance, window)} + ${rate('node_disk_write_time_seconds_total', instance, window)}) / (${rate('node_disk_reads_completed_total', instance, window)} + ${rate('node_disk_writes_completed_total', instance, window)} > 0)`,
        label: by('device'),
      },
    ],
  },
  {
    id: 'disk-bytes',
    title: 'Disk throughput',
    unit: 'bytes/s',
    what: 'Bytes read and written each second, over all devices.',
    worry: 'Worry when it is at what the device can give, or when nobody knows who writes.',
    ask: (instance, window) => [
      { query: `sum(${rate('node_disk_read_bytes_total', instance, window)})`, label: named('read') },
      { query: `sum(${rate('node_disk_written_bytes_total', instance, window)})`, label: named('written') },
    ],
  },
  {
    id: 'space',
    title: 'Space taken',
    unit: 'ratio',
    what: 'The taken share of each filesystem, as a program that may not use the reserve sees it.',
    worry: 'Worry above 90%, or when the table below says that it is full within hours.',
    atLeast: 1,
    ask: (instance) => [
      {
        query: `1 - node_filesystem_avail_bytes${select(instance, REAL_FS)} / (node_filesystem_size_bytes${select(instance, REAL_FS)} > 0)`,
        label: by('mountpoint'),
      },
    ],
  },
  {
    id: 'network',
    title: 'Network',
    unit: 'bytes/s',
    what: 'Bytes received and sent each second over all interfaces but the loopback.',
    worry: 'Worry when it nears the line’s speed, or drops to nothing while the service should be busy.',
    ask: (instance, window) => [
      { query: `sum(${rate('node_network_receive_bytes_total', instance, window, 'device!="lo"')})`, label: named('received') },
      { query: `sum(${rate('node_network_transmit_bytes_total', instance, window, 'device!="lo"')})`, label: named('sent') },
    ],
  },
  {
    id: 'network-errors',
    title: 'Network errors',
    unit: '/s',
    what: 'Broken and dropped packets, and TCP segments that had to be sent again.',
    worry: 'Worry when any of them is not about zero for minutes: players notice it first.',
    atLeast: 1,
    ask: (instance, window) => [
      {
        query: `sum(${rate('node_network_receive_errs_total', instance, window)}) + sum(${rate('node_network_transmit_errs_total', instance, window)})`,
        label: named('errors'),
      },
      {
        query: `sum(${rate('node_network_receive_drop_total', instance, window)}) + sum(${rate('node_network_transmit_drop_total', instance, window)})`,
        label: named('drops'),
      },
      { query: `sum(${rate('node_netstat_Tcp_RetransSegs', instance, window)})`, label: named('retransmits') },
    ],
  },
  {
    id: 'sockets',
    title: 'TCP connections',
    unit: 'count',
    what: 'Connections that are established and those that wait after their end.',
    worry: 'Worry when it grows without an end, or falls at once.',
    ask: (instance) => [
      {
        query: `{__name__=~"node_netstat_Tcp_CurrEstab|node_sockstat_TCP_tw",instance=${quoted(instance)}}`,
        label: byName({ node_netstat_Tcp_CurrEstab: 'established', node_sockstat_TCP_tw: 'time-wait' }),
      },
    ],
  },
  {
    id: 'context',
    title: 'Context switches',
    unit: '/s',
    what: 'How often the kernel gave a core from one task to another, and interrupts.',
    worry: 'Worry when it jumps without more work being done: threads fight for a lock, or a device storms.',
    ask: (instance, window) => [
      { query: rate('node_context_switches_total', instance, window), label: named('switches') },
      { query: rate('node_intr_total', instance, window), label: named('interrupts') },
    ],
  },
];

/** The numbers of the header, a second's rate each. */
export interface Vital {
  id: string;
  name: string;
  unit: Unit;
  query: (instance: string) => string;
  worryAbove?: number;
}

export const VITALS: readonly Vital[] = [
  {
    id: 'cpu',
    name: 'CPU',
    unit: 'ratio',
    worryAbove: 0.9,
    query: (instance) =>
      `1 - sum(${rate('node_cpu_seconds_total', instance, '5s', 'mode=~"idle|iowait"')}) / count(node_cpu_seconds_total${select(instance, 'mode="idle"')})`,
  },
  { id: 'load', name: 'Load', unit: 'count', query: (instance) => `node_load1${select(instance)}` },
  {
    id: 'memory',
    name: 'Memory',
    unit: 'ratio',
    worryAbove: 0.9,
    query: (instance) => `1 - node_memory_MemAvailable_bytes${select(instance)} / node_memory_MemTotal_bytes${select(instance)}`,
  },
  {
    id: 'disk',
    name: 'Fullest disk',
    unit: 'ratio',
    worryAbove: 0.9,
    query: (instance) =>
      `max(1 - node_filesystem_avail_bytes${select(instance, REAL_FS)} / (node_filesystem_size_bytes${select(instance, REAL_FS)} > 0))`,
  },
  {
    id: 'received',
    name: 'Received',
    unit: 'bytes/s',
    query: (instance) => `sum(${rate('node_network_receive_bytes_total', instance, '5s', 'device!="lo"')})`,
  },
  {
    id: 'sent',
    name: 'Sent',
    unit: 'bytes/s',
    query: (instance) => `sum(${rate('node_network_transmit_bytes_total', instance, '5s', 'device!="lo"')})`,
  },
];

/** What the tables of a host are made of. */
export const tables = {
  space: (instance: string) => ({
    size: `node_filesystem_size_bytes${select(instance, REAL_FS)}`,
    available: `node_filesystem_avail_bytes${select(instance, REAL_FS)}`,
    growth: `deriv(node_filesystem_avail_bytes${select(instance, REAL_FS)}[1h])`,
    readonly: `node_filesystem_readonly${select(instance, REAL_FS)}`,
  }),
  network: (instance: string) => ({
    received: rate('node_network_receive_bytes_total', instance, '1m'),
    sent: rate('node_network_transmit_bytes_total', instance, '1m'),
    up: `node_network_up${select(instance)}`,
  }),
  services: (instance: string) => `node_systemd_unit_state${select(instance)} == 1`,
  processes: (instance: string) =>
    `{__name__=~"pitwatch_process_(cpu_ratio|resident_memory_bytes|io_bytes_per_second|open_files|threads)",instance=${quoted(instance)}}`,
  processCpu: (instance: string) => `pitwatch_process_cpu_ratio${select(instance)}`,
  alerts: (instance: string) => `ALERTS${select(instance)}`,
};
