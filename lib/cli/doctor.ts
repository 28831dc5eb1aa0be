/** `ternion doctor`: whether the addon loads here, and if not what to do. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { addonReport, buildInfo } from '../addon.js';
import { packageRoot } from '../addon/candidates.js';
import { inWords } from '../addon/search.js';
import { cpuLevel } from '../addon/variants.js';
import { common, parse } from './options.js';

export const doctor = {
  help: `ternion doctor [--json]

Says what this machine is, which native addons were looked for, what became of each, and what to do if none loads (exit code 1).
TERNION_ADDON=FILE loads that file and no other; TERNION_PREBUILD=NAME takes that prebuild without asking the CPU.

JSON: { ternion, platform, arch, libc, libcVersion, runtime, cpu, cpuFeatures, candidates: [{ path, what, verdict, reason }], loaded, build, advice }`,
  run(args: string[]): Promise<number> {
    const { values } = parse(args, common);
    const { machine, tried, loaded, advice } = addonReport();
    const { platform, arch, libc, libcVersion, runtime, cpuFeatures } = machine;
    const { version } = JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as { version: string };
    const build = loaded === undefined ? null : buildInfo();
    const code = loaded === undefined ? 1 : 0;
    if (values['json'] === true) {
      const features = cpuFeatures === undefined ? null : [...cpuFeatures];
      console.log(JSON.stringify({ ternion: version, platform, arch, libc, libcVersion, runtime, cpu: cpuLevel(machine), cpuFeatures: features, candidates: tried, loaded: loaded ?? null, build, advice }));
      return Promise.resolve(code);
    }
    const facts = [`ternion ${version}`, `${platform}-${arch}`, `${libc} ${libcVersion}`.trim(), runtime, cpuLevel(machine)];
    console.log(`${facts.filter((fact) => fact !== '').join(' · ')}\n`);
    for (const each of tried) console.log(`${each.what.padEnd(9)} ${each.path}\n${' '.repeat(10)}${inWords(each)}`);
    if (build !== null) console.log(`\n${Object.entries(build).map(([name, value]) => `${name.padEnd(9)} ${String(value)}`).join('\n')}`);
    else console.log(`\nNo native addon can be loaded here. What to do:\n${advice.join('\n')}`);
    return Promise.resolve(code);
  },
};
