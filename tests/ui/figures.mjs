// How fast the web interface is, in headless Chromium beside the collector: prints a table for docs/benchmarks/web.md.
//   UI_PROFILE=release node figures.mjs
import { openBrowser, openStage, signIn } from './stage.mjs';

const HOSTS = Number(process.env.UI_HOSTS ?? 1000);
const RUNS = 5;
const LIVE_SECS = 30;

const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
const line = (what, figure, target, isMet) => console.log(`| ${what} | ${figure} | ${target} | ${isMet ? 'yes' : 'no'} |`);

const stage = await openStage(['--hosts', String(HOSTS), '--seconds', '1200', '--past-hours', '24'], process.env.UI_PROFILE ?? 'release');
const browser = await openBrowser();
try {
  await signIn(browser.context, stage);
  const page = await browser.context.newPage();
  const devtools = await browser.context.newCDPSession(page);
  await devtools.send('Network.enable');
  await devtools.send('Performance.enable');
  const metric = async (name) => (await devtools.send('Performance.getMetrics')).metrics.find((one) => one.name === name).value;
  let bytes = 0;
  devtools.on('Network.loadingFinished', (event) => (bytes += event.encodedDataLength));
  await page.waitForTimeout(8000);

  // Plain HTTP from another host has no brotli: gzip is what is promised.
  await devtools.send('Network.setExtraHTTPHeaders', { headers: { 'accept-encoding': 'gzip' } });
  const fleet = [];
  for (let run = 0; run < RUNS; run += 1) {
    await devtools.send('Network.clearBrowserCache');
    bytes = 0;
    await page.goto(`${stage.url}/`);
    const drawn = await page.waitForFunction((count) => document.querySelectorAll('a[data-host]').length >= count && performance.now(), HOSTS, { polling: 'raf' });
    const paint = await page.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? NaN);
    fleet.push({ first: paint, all: await drawn.jsonValue(), bytes });
    await page.waitForTimeout(500);
  }
  console.log(`| what | measured, median of ${RUNS} | target | met |\n|---|---|---|---|`);
  line(`Fleet with ${HOSTS} hosts: first paint`, `${median(fleet.map((run) => run.first)).toFixed(0)} ms`, '1 s', median(fleet.map((run) => run.first)) <= 1000);
  line('Fleet: every host drawn, cache empty', `${median(fleet.map((run) => run.all)).toFixed(0)} ms`, '1 s', median(fleet.map((run) => run.all)) <= 1000);
  line('Fleet: over the wire, gzip, all of it', `${(median(fleet.map((run) => run.bytes)) / 1000).toFixed(0)} kB`, '300 kB', median(fleet.map((run) => run.bytes)) <= 300_000);

  // From the moment at which the range is chosen until every chart in sight is drawn.
  const day = [];
  await page.goto(`${stage.url}/hosts/${stage.gone}?range=1h`);
  await page.locator('[data-panel=cpu][data-drawn=yes]').waitFor();
  for (let run = 0; run < RUNS; run += 1) {
    await page.goto(`${stage.url}/hosts/${stage.gone}?range=1h`);
    await page.locator('[data-panel=cpu][data-drawn=yes]').waitFor();
    await page.waitForTimeout(1000);
    await page.evaluate(() => {
      const inSight = [...document.querySelectorAll('[data-panel]')].filter((panel) => panel.getBoundingClientRect().top < innerHeight);
      window.before = new Map(inSight.map((panel) => [panel, panel.dataset.loaded]));
      document.addEventListener('change', () => (window.begun = performance.now()), { capture: true, once: true });
    });
    await page.locator('select[aria-label="Time range"]').selectOption(String(24 * 3600 * 1000));
    const drawn = await page.waitForFunction(
      () => [...window.before].every(([panel, loaded]) => panel.dataset.loaded !== loaded) && performance.now() - window.begun,
      undefined,
      { polling: 'raf' },
    );
    day.push({ ms: await drawn.jsonValue(), charts: await page.evaluate(() => window.before.size) });
  }
  const charts = median(day.map((run) => run.charts));
  line(`Host, 24 h at 1 s behind it: ${charts} charts in sight drawn`, `${median(day.map((run) => run.ms)).toFixed(0)} ms`, '300 ms', median(day.map((run) => run.ms)) <= 300);

  for (const [what, at] of [
    ['Host, live at 1 s', `/hosts/${stage.sick}?range=15m`],
    [`Fleet of ${HOSTS}, live`, '/'],
  ]) {
    await page.goto(stage.url + at);
    await page.waitForTimeout(4000);
    const [begun, busy] = [Date.now(), await metric('TaskDuration')];
    await page.waitForTimeout(LIVE_SECS * 1000);
    const share = ((await metric('TaskDuration')) - busy) / ((Date.now() - begun) / 1000);
    line(`${what}: the browser's main thread`, `${(share * 100).toFixed(1)}%`, '10%', share <= 0.1);
  }
} finally {
  await browser.close();
  await stage.close();
}
