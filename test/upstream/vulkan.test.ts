import { expect, test } from 'vitest';
import { devices, loadModel } from '../../dist/index.js';

process.env['GGML_VK_VISIBLE_DEVICES'] = '0'; // lavapipe is a software device, which ggml leaves out unless it is named
const path = 'models/tern-5m-tq2_0.gguf';
const gpu = (await devices()).find((device) => device.backend === 'vulkan');

test.skipIf(gpu === undefined)('lavapipe is a GPU that the CPU plays, in the CPU’s memory', async () => {
  const [cpu] = await devices();
  expect(gpu).toMatchObject({ driver: 'llvmpipe', uma: true, software: true, hardwareId: '', pciId: '' });
  expect(gpu!.driverVersion).toMatch(/Mesa/);
  expect(gpu!.capabilities).toContain('fp16');
  expect(gpu!.capabilities).not.toContain('int8-dot');
  expect(gpu!.totalBytes).toBeLessThanOrEqual(cpu!.totalBytes);
  expect(gpu!.freeBytes).toBeLessThanOrEqual(gpu!.totalBytes);
  expect(gpu!.largestAllocationBytes).toBeGreaterThan(2 ** 27);
  expect((await devices({ measure: 'again' })).find((device) => device.id === gpu!.id)?.readBytesPerSecond).toBeGreaterThan(1e8);
});

// The CPU quantises activations and Vulkan does not, so logits are compared, teacher-forced, and not texts.
test.skipIf(gpu === undefined)('Vulkan agrees with the CPU', async () => {
  const cpu = await loadModel(path, { devices: ['cpu'] });
  const session = await cpu.session();
  const { text } = await session.complete('Once upon a time', { temperature: 0, ignoreEos: true, maxTokens: 200 });
  const tokens = await cpu.tokenize(`<|endoftext|>Once upon a time${text}`, { special: true });
  const expected = await cpu.logits(tokens);
  const width = cpu.info.vocabulary;
  await cpu.dispose();
  const model = await loadModel(path, { devices: [gpu!.id] });
  expect(model.placement.devices.find((place) => place.device === gpu!.id)?.weightBytes).toBeGreaterThan(1_000_000);
  const found = await model.logits(tokens);
  await model.dispose();

  let error = 0;
  let power = 0;
  let clear = 0;
  let same = 0;
  for (let row = 0; row < tokens.length; row++) {
    const a = expected.subarray(row * width, (row + 1) * width);
    const b = found.subarray(row * width, (row + 1) * width);
    for (let i = 0; i < width; i++) {
      error += (a[i]! - b[i]!) ** 2;
      power += a[i]! ** 2;
    }
    const [first, second] = Float32Array.from(a).sort().reverse();
    if (first! - second! < 0.1) continue; // a near-tie may fall either way
    clear++;
    if (a.indexOf(first!) === b.indexOf(Math.max(...b))) same++;
  }
  expect(error / power).toBeLessThanOrEqual(5e-4);
  expect(clear).toBeGreaterThan(100);
  expect(same / clear).toBeGreaterThanOrEqual(0.99);
});
