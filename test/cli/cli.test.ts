import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

function run(args: readonly string[], { input = '', interrupt = false, program = ['dist/cli/main.js'] } = {}): Promise<Ended> {
  const child = spawn(process.execPath, [...program, ...args], { env: { ...process.env, TERNION_DEVICES: 'cpu' } });
  let out = '';
  let err = '';
  let interrupted = false;
  child.stdout.on('data', (data: Buffer) => {
    out += data.toString();
    if (interrupt && !interrupted && out.length > 60) interrupted = child.kill('SIGINT'); // a second one would kill
  });
  child.stderr.on('data', (data: Buffer) => (err += data.toString()));
  child.stdin.end(input);
  return new Promise((resolve) => child.on('close', (code) => resolve({ code, out, err })));
}

describe('ternion', () => {
  test('generate prints a text and one line of figures', async () => {
    const { code, out, err } = await run(['generate', 'Once upon a time', '--max-tokens', '16', '--seed', '7']);
    expect(code).toBe(0);
    expect(out).toMatch(/^Once upon a time/);
    expect(err.trim()).toMatch(/^16 tokens · \d+ tok\/s · first token [\d.]+ ms · cpu · seed 7$/);
  });

  test('generate --json is one object', async () => {
    const { out } = await run(['generate', 'Once', '--max-tokens', '4', '--json']);
    expect(JSON.parse(out)).toMatchObject({ prompt: 'Once', reason: 'length', usage: { generated: 4 } });
  });

  test('an interrupt keeps the text and exits with 130', async () => {
    const { code, out } = await run(['generate', 'Once', '--ignore-eos'], { interrupt: true });
    expect(code).toBe(130);
    expect(out.length).toBeGreaterThan(60);
  });

  test('chat answers a line of stdin', async () => {
    const { code, out } = await run(['chat', '--temperature', '0'], { input: 'What is 3 + 4?\n' });
    expect(code).toBe(0);
    expect(out).toContain('7');
  });

  test('devices, inspect and tokenize speak JSON', async () => {
    expect(JSON.parse((await run(['devices', '--json'])).out)).toHaveProperty('devices.0.id', 'cpu');
    expect(JSON.parse((await run(['inspect', 'models/tern-5m-tq2_0.gguf', '--json'])).out)).toHaveProperty('version', 3);
    expect(JSON.parse((await run(['tokenize', 'Once', '--json'])).out)).toEqual([expect.objectContaining({ text: 'Once' })]);
  });

  test('plan ranks several files of a model', async () => {
    const [model, f16] = ['models/tern-5m-tq2_0.gguf', 'models/tern-5m-f16.gguf'];
    const ranked = await run(['plan', model, f16, '--device', 'cpu', '--context', '1024', '--json']);
    expect(ranked.code).toBe(0);
    expect((JSON.parse(ranked.out) as { files: { path: string }[] }).files.map(({ path }) => path)).toEqual([f16, model]);
    expect((await run(['plan', model, f16, '--device', 'cpu', '--context', '1024'])).out).toMatch(/^→ .*f16\.gguf\n +16\.\d\d bits per weight/);
  });

  test('plan draws a plan, speaks JSON, and ends with 1 where a model does not fit', async () => {
    const model = 'models/tern-5m-tq2_0.gguf';
    const drawn = await run(['plan', model, '--device', 'cpu', '--context', '1024']);
    expect(drawn.code).toBe(0);
    expect(drawn.out).toMatch(/^Tern 5M: llama, .*\ncontext 1024 · 1 sequence · KV cache f16 .*\n\ncpu +\[█.*\] .* free, .* in all\n +█ weights 2\.\d MiB {2}▓ KV cache 5.0 MiB/);
    const [cpu] = (JSON.parse((await run(['plan', model, '--device', 'cpu', '--context', '1024', '--json'])).out) as { memory: { weightBytes: number }[] }).memory;
    expect(drawn.out).toContain(`weights ${(cpu!.weightBytes / 2 ** 20).toFixed(1)} MiB`); // how they are held is chosen by timing
    expect(drawn.out).toMatch(/\nfits\n {2}on the CPU, as was asked for\n( {2}loading it took (\d+ ms|\d+\.\d s) last time\n)?$/);
    const json = await run(['plan', model, '--min-context', '300', '--max-context', '1000', '--kv', 'auto', '--json']);
    expect(JSON.parse(json.out)).toMatchObject({ version: 1, fits: true, context: 1000, kv: { k: 'f16', v: 'f16' } });
    const folder = mkdtempSync(join(tmpdir(), 'ternion-cli-plan-'));
    const picture = join(folder, 'plan.svg');
    expect((await run(['plan', model, '--device', 'cpu', '--svg', picture])).code).toBe(0);
    expect(readFileSync(picture, 'utf8')).toMatch(/^<svg [^>]*>[^]*Tern 5M[^]*<\/svg>\n$/);
    expect((await run(['plan', model, '--device', 'cpu', '--svg', join(folder, 'absent', 'plan.svg')])).code).toBe(1);
    rmSync(folder, { recursive: true });
    const short = await run(['plan', model, '--reserve', '99999999']);
    expect(short).toMatchObject({ code: 1, out: expect.stringContaining('does not fit') as string });
    for (const args of [['plan'], ['plan', model, '--context', '5', '--min-context', '4'], ['plan', model, '--kv', 'f8'], ['plan', model, '--sweep', 'layers'], ['plan', model, '--sweep', 'experts', '--device', 'cpu'], ['plan', model, '--min-speed', '3']]) expect((await run(args)).code, args.join(' ')).toBe(2);
  });

  test('ceiling and tune find, draw and speak JSON', async () => {
    process.env['XDG_CACHE_HOME'] = mkdtempSync(join(tmpdir(), 'ternion-cli-'));
    try {
      const model = 'models/tern-5m-f16.gguf';
      const limits = ['ceiling', model, '--min-context', '256', '--max-context', '600', '--kv', 'q8_0'];
      const found = await run(limits);
      expect(found).toMatchObject({ code: 0, err: '' });
      expect(found.out).toMatch(/^ +600 {2}works: 480 filled at [\d.e+]+ tok\/s, then [\d.e+]+ tok\/s\na context of 600 tokens works: all that was asked for\nplanned 600, trained 2048\n$/);
      expect(JSON.parse((await run([...limits, '--json'])).out)).toMatchObject({ context: 600, probes: [{ stored: true }], settings: { kv: { k: 'q8_0', v: 'q8_0' } } });
      expect((await run([...limits, '--fresh', '--timeout', '0.001', '--json'])).code).toBe(1);
      const tuned = await run(['tune', model, '--ubatch', '64', '--kv', 'none', '--threads', 'none', '--flash-attention', 'none', '--rounds', '2', '--context', '512', '--prompt', '128', '--tokens', '4']);
      expect(tuned.out).toMatch(/^2 rounds .*\ndefault .*\ndefault, again .*\nubatch 64 .*\n\nfastest decode .*\nfastest prefill .*\nsettings .*\n$/);
      for (const args of [['ceiling'], ['ceiling', model, '--context', '512'], ['tune'], ['tune', model, '--kv', 'f9'], ['tune', model, '--layers', '--ubatch', '64'], ['ceiling', model, '--timeout', '-1']]) expect((await run(args)).code, args.join(' ')).toBe(2);
      expect((await run(['tune', model, '--layers'])).err).toMatch(/ERR_DEVICE_NOT_FOUND/);
    } finally {
      rmSync(process.env['XDG_CACHE_HOME'], { recursive: true, force: true });
      delete process.env['XDG_CACHE_HOME'];
    }
  });

  test('wrong usage is 2, failure is 1, each in one line', async () => {
    for (const [args, expected] of [[['sing'], 2], [['generate', '--wat'], 2], [['generate', '--seed', 'x'], 2], [['inspect', 'none'], 1]] as const) {
      const { code, err } = await run(args);
      expect(code, args.join(' ')).toBe(expected);
      expect(err.trim().split('\n')).toHaveLength(1);
    }
  });
});

describe('the process', () => {
  const script = (body: string) => ['--input-type=module', '-e', `import { loadModel } from 'ternion'; ${body}`];
  const model = "const model = await loadModel('models/tern-5m-tq2_0.gguf', { devices: ['cpu'] }); const session = await model.session();";

  test('exits by itself, by process.exit during a generation, and says nothing', async () => {
    const idle = await run(script(model), { program: [] });
    expect(idle).toEqual({ code: 0, out: '', err: '' });
    // Several at a time, at different moments: the machine is busy, and threads are late.
    const exits = Array.from({ length: 24 }, (_, i) => {
      const body = `${model} session.complete('Once', { ignoreEos: true }); setTimeout(() => process.exit(3), ${5 + 2 * i})`;
      return run(script(body), { program: [] });
    });
    for (const busy of await Promise.all(exits)) expect(busy).toEqual({ code: 3, out: '', err: '' });
    const thrown = await run(script(`${model} session.complete('Once', { ignoreEos: true }); setTimeout(() => { throw new Error('mine') }, 30)`), { program: [] });
    expect(thrown).toMatchObject({ code: 1, out: '' });
    expect(thrown.err).toContain('Error: mine');
    const bad = await run(script(`${model} await session.complete('Once', { grammar: 'root ::= (' }).catch((e) => console.log(e.code))`), { program: [] });
    expect(bad).toMatchObject({ out: 'ERR_GRAMMAR_INVALID\n', err: '' });
  });

  test('survives the end of a worker that generates', async () => {
    const worker = `import { Worker } from 'node:worker_threads';
      const inside = "import(process.cwd() + '/dist/index.js').then(async ({ loadModel }) => { const m = await loadModel('models/tern-5m-tq2_0.gguf', { devices: ['cpu'] }); const s = await m.session(); s.complete('Once', { ignoreEos: true }); setTimeout(() => require('node:worker_threads').parentPort.postMessage('on'), 20); })";
      for (let i = 0; i < 3; i++) { const w = new Worker(inside, { eval: true, execArgv: [] }); await new Promise((r) => w.once('message', r)); await w.terminate(); }
      console.log('alive');`;
    const { code, out } = await run(['--input-type=module', '-e', worker], { program: [] });
    expect(out.trim()).toBe('alive');
    expect(code).toBe(0);
  });

  test("require('ternion') works", async () => {
    const { out } = await run(['-e', "console.log(typeof require('ternion').loadModel)"], { program: [] });
    expect(out.trim()).toBe('function');
  });
});
