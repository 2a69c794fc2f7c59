//! What a host's page looks at, shared by its parts: the host, the span and its step, and the moment under the cursor.

import { clockwork } from '../clock.svelte';
import { SECOND, aligned, parseRange, span, stepFor, HOUR, type Range, type Span } from '../time';
import { route } from '../router.svelte';

/** Points of a chart: more than this nobody sees. */
const POINTS = 480;
/** Up to this step a chart is drawn on second by second; beyond, it is asked again now and then. */
const LIVE_STEP_MAX_SECS = 10;

export class View {
  constructor(readonly instance: string) {}

  readonly range: Range = $derived(parseRange(route.params, HOUR));
  readonly stepSecs = $derived(stepFor(span(this.range, 0), POINTS));
  readonly isLive = $derived(this.range.kind === 'last' && this.stepSecs <= LIVE_STEP_MAX_SECS);
  /** The moment that is pinned by a click; kept in the address. */
  readonly pinned = $derived.by((): number | undefined => {
    const at = Number(route.get('at'));
    return at > 0 && Number.isSafeInteger(at) ? at : undefined;
  });
  /** Where the pointer is. */
  pointed = $state<number | null>(null);

  /** Moves on by steps: between them nothing new would be drawn. */
  readonly #tick = $derived(Math.floor(clockwork.now / (this.stepSecs * SECOND)) * this.stepSecs * SECOND);
  /** What the charts show now. */
  readonly shown: Span = $derived(span(this.range, this.#tick));

  /** What is asked of history: stays the same until there is a new step worth asking for. */
  loaded(now: number): Span {
    return aligned(span(this.range, now), this.stepSecs);
  }

  /** How often a range that moves is asked again. */
  get reloadMs(): number {
    return this.range.kind === 'fixed' ? 0 : this.isLive ? 60 * SECOND : Math.max(this.stepSecs, 15) * SECOND;
  }
}
