import { expect, it } from 'vitest';
import { measured, safeLink, urgency } from './alerts';
import type { Alert } from './api/types';

it('what is measured stands before the last comparison with a number', () => {
  expect(measured('100 * rate(x{a="> 5"}[5m]) > 60')).toEqual({ query: '100 * rate(x{a="> 5"}[5m])', threshold: 60, comparison: '>' });
  expect(measured('up == 0').threshold).toBe(0);
  expect(measured('x < 1e-3').threshold).toBe(0.001);
  for (const whole of ['a > b', 'x > 5 and y < 4', 'absent(up)', 'f(x > 5)', 'sum(x > 3']) expect(measured(whole)).toEqual({ query: whole, threshold: undefined, comparison: '' });
});

it('links are only to web pages', () => {
  expect(safeLink('https://runbook/x')).toBe('https://runbook/x');
  for (const wrong of ['javascript:alert(1)', ' JAVASCRIPT:x', 'data:text/html,x', '//evil', undefined]) expect(safeLink(wrong)).toBeUndefined();
});

it('what needs a person comes first', () => {
  const alert = (more: Partial<Alert>): Alert => ({ fingerprint: '', labels: {}, annotations: {}, state: 'firing', active_since_ms: 0, value: 1, rule: '', expression: '', silenced_by: [], inhibited_by: [], acknowledged: null, assigned_to: null, incident: null, ...more });
  const [calm, worst, quiet] = [alert({ labels: { severity: 'warning' } }), alert({ labels: { severity: 'critical' } }), alert({ labels: { severity: 'critical' }, silenced_by: ['x'] })];
  expect([quiet, calm, worst].sort(urgency)).toEqual([worst, calm, quiet]);
});
