#!/usr/bin/env node
// npm run build: everything that npm start needs. With --native, the addon alone:
//
//   --force               even if it looks fresh (node-gyp has emptied build/)
//   --tests               also the C++ tests and llama.cpp's own programs
//   --cmake-js            through cmake-js (npm run build:native)
//   --node-include DIR    take node_api.h from there (node-gyp)

import { parseArgs } from 'node:util';

import { checkTools } from './requirements.mjs';
import { clearLog, exclusively, main } from './run.mjs';
import { ensureAddon, setUp } from './setup.mjs';

await main(async (args) => {
  const { values } = parseArgs({
    args,
    options: {
      native: { type: 'boolean' },
      force: { type: 'boolean' },
      tests: { type: 'boolean', default: false },
      'cmake-js': { type: 'boolean', default: false },
      'node-include': { type: 'string' },
    },
  });
  if (!values.native) return setUp({ tests: values.tests });

  checkTools();
  await exclusively(() => {
    clearLog();
    return ensureAddon({
      force: values.force || values['cmake-js'],
      tests: values.tests,
      cmakeJs: values['cmake-js'],
      ...(values['node-include'] && { nodeInclude: values['node-include'] }),
    });
  });
});
