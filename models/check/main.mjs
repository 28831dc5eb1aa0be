#!/usr/bin/env node
// npm run models:check: measures every file of the family again and holds it against models/family.json, from which the
// cards in models/README.md quote. `--write` puts the measured figures there; names of files restrict it. Takes minutes.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { ROOT, SetupError, main } from '../../scripts/run.mjs';
import { setUp } from '../../scripts/setup.mjs';

const FAMILY = join(ROOT, 'models', 'family.json');

await main(async (args) => {
  const { values, positionals } = parseArgs({ args, options: { write: { type: 'boolean' } }, allowPositionals: true });
  await setUp({ tests: true });
  const { FIGURES } = await import('./figures.mjs'); // needs what setUp made
  const family = JSON.parse(readFileSync(FAMILY, 'utf8'));
  const unknown = positionals.find((name) => !(name in family));
  if (unknown !== undefined) throw new SetupError(`there is no '${unknown}' in ${FAMILY}`);
  let wrong = 0;
  for (const [name, recorded] of Object.entries(family)) {
    if (positionals.length > 0 && !positionals.includes(name)) continue;
    console.log(name);
    for (const [figure, before] of Object.entries(recorded)) {
      const { of, agrees } = FIGURES[figure] ?? {};
      if (!of) throw new SetupError(`${FAMILY} has a figure '${figure}' that nothing measures`);
      const now = await of(name);
      // What is written must agree with itself: some figures have bars of their own.
      const fine = agrees(now, values.write ? now : before);
      wrong += fine ? 0 : 1;
      console.log(`  ${figure.padEnd(20)} ${JSON.stringify(now)}${fine ? '' : `   NOT as recorded: ${JSON.stringify(before)}`}`);
      recorded[figure] = now;
    }
  }
  if (values.write && wrong === 0) writeFileSync(FAMILY, `${JSON.stringify(family, null, 2)}\n`);
  if (wrong > 0) throw new SetupError(`${wrong} figures are not as recorded`);
});
