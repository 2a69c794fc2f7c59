// Pictures of every page in both themes at three widths, and the few that the README shows.
//   node screens.mjs DIR [--readme]
import { spawnSync } from 'node:child_process';
import { mkdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { openBrowser, openStage, root, signIn, until } from './stage.mjs';

const WIDTHS = [[360, 740], [1280, 800], [1920, 1080]];
const [dir = '.', ...options] = process.argv.slice(2);
const forReadme = options.includes('--readme');

const stage = await openStage(['--hosts', process.env.UI_HOSTS ?? '400', '--seconds', '1200'], process.env.UI_PROFILE ?? 'debug');
const browser = await openBrowser();
try {
  const page = await browser.context.newPage();
  await mkdir(dir, { recursive: true });
  for (const [width, height] of forReadme ? [] : WIDTHS) {
    await page.setViewportSize({ width, height });
    for (const colorScheme of ['dark', 'light']) {
      await page.emulateMedia({ colorScheme });
      await page.goto(stage.url);
      await page.getByLabel('Token').waitFor();
      await page.screenshot({ path: path.join(dir, `sign-in-${colorScheme}-${width}.png`) });
    }
  }
  await signIn(browser.context, stage);
  const ask = async (at) => (await browser.context.request.get(stage.url + at)).json();
  const alert = await until('the sick host fires', async () => (await ask('/api/v1/pitwatch/alerts')).data.alerts.find(({ state }) => state === 'firing'), 60_000);
  // Some minutes of history make charts that say something.
  const warmUp = Number(process.env.UI_WARM_UP_SECS ?? 60);
  await new Promise((resolve) => setTimeout(resolve, warmUp * 1000));

  const query = encodeURIComponent('topk(5, sum by (instance) (rate(node_network_transmit_bytes_total[1m])))');
  const incident = (await ask('/api/v1/pitwatch/incidents?state=all')).data.incidents[0];
  const press = (name) => () => page.getByRole('button', { name }).first().click();
  // Name, address, what is there when it is drawn, and what is done then.
  const pages = [
    ['fleet', '/', '.complaint'],
    ['rows', '/?view=rows', '[data-row]'],
    ['host', `/hosts/${stage.sick}?range=5m`, '[data-panel=cpu][data-drawn=yes]'],
    ['silences', '/silences', 'main h1'],
    ['incidents', '/alerts?tab=incidents', 'main h1'],
    ['past', `/hosts/${stage.gone}?range=1h`, '[data-panel=cpu][data-drawn=yes]'],
    ['alerts', '/alerts', 'li.panel'],
    ['alert', `/alerts/${alert.fingerprint ?? ''}`, 'main h1, main h2'],
    ['silence', `/alerts/${alert.fingerprint ?? ''}`, 'main h1', press('Silence…')],
    ['incident', `/incidents/${incident?.id ?? 0}`, 'main h1'],
    ['weekly', '/silences', 'main h1', async () => {
      await press('New silence…')();
      await press('Every week')();
    }],
    ['explore', `/explore?q=${query}&range=5m`, '[data-outcome]'],
    ['explore-table', `/explore?q=${query}&view=table`, '[data-outcome]'],
    ['events', '/events', 'main h1'],
    ['agents', '/agents', 'tbody tr'],
    ['enrol', '/agents', 'tbody tr', press('Enrol…')],
    ['status', '/status', 'dl'],
    ['keys', '/', '.complaint', () => page.keyboard.press('?')],
  ];
  const readme = new Set(['fleet', 'host', 'explore']);
  const widths = forReadme ? [[1280, 800]] : WIDTHS;
  for (const theme of forReadme ? ['dark'] : ['dark', 'light']) {
    await page.emulateMedia({ colorScheme: theme });
    for (const [width, height] of widths) {
      await page.setViewportSize({ width, height });
      for (const [name, at, ready, act] of pages.filter(([name]) => !forReadme || readme.has(name))) {
        await page.goto(stage.url + at);
        await page.locator(ready).first().waitFor({ timeout: 20_000 });
        await page.waitForTimeout(2500);
        await act?.();
        if (act) await page.waitForTimeout(500);
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        if (wide > 0) console.log(`${name} at ${width}: ${wide} px wider than the window`);
        const file = path.join(dir, forReadme ? `${name}.png` : `${name}-${theme}-${width}.png`);
        await page.screenshot({ path: file, fullPage: !forReadme && process.env.UI_WHOLE === '1' });
        if (forReadme) {
          // Fewer colours make a page of text and lines small, and look the same.
          spawnSync('pngquant', ['--force', '--output', file, '64', file]);
          console.log(`${path.relative(root, file)}: ${Math.round((await stat(file)).size / 1000)} kB`);
        }
      }
    }
  }
} finally {
  await browser.close();
  await stage.close();
}
