/** `ternion devices`, `ternion tokenize TEXT`. */
import { devices as listDevices } from '../devices.js';
import type { Device } from '../devices.js';
import { common, loading, parse, UsageError } from './options.js';
import { mib, openModel } from './terminal.js';

export const devices = {
  help: `ternion devices [--measure] [--json]

Lists what a model can run on, and why a backend offers nothing.

  --measure  read bandwidth of the devices whose is not known yet; kept until the device or its driver changes
JSON: { devices: [{ id, name, description, backend, kind, pciId, hardwareId, driver, driverVersion, architecture, uma, software, totalBytes, freeBytes, ownFreeBytes, largestAllocationBytes, capabilities, readBytesPerSecond }], unavailable: [{ backend, reason }] }`,
  async run(args: string[], signal: AbortSignal): Promise<number> {
    const { values } = parse(args, { ...common, measure: { type: 'boolean' } });
    const list = await listDevices({ measure: values['measure'] === true, signal });
    if (values['json'] === true) {
      console.log(JSON.stringify({ devices: list, unavailable: list.unavailable }));
      return 0;
    }
    for (const device of list) {
      console.log(`${device.id.padEnd(10)} ${device.kind.padEnd(5)} ${mib(device.freeBytes)} free of ${mib(device.totalBytes)}  ${device.description}`);
      for (const line of aboutDevice(device)) console.log(`${''.padEnd(16)} ${line}`);
    }
    for (const { backend, reason } of list.unavailable) console.log(`${backend.padEnd(10)} –     ${reason}`);
    return 0;
  },
};

function aboutDevice(device: Device): string[] {
  const { pciId, hardwareId, driver, driverVersion, architecture, readBytesPerSecond } = device;
  const what = [architecture, `${driver} ${driverVersion}`.trim(), [hardwareId, pciId].filter((id) => id !== '').join(' at ')];
  const memory = [
    device.software ? 'the CPU plays it' : device.uma ? 'its memory is the CPU’s' : '',
    device.id === 'cpu' ? '' : `largest buffer ${mib(device.largestAllocationBytes).trim()}`,
    readBytesPerSecond === undefined ? '' : `reads ${(readBytesPerSecond / 1e9).toPrecision(3)} GB/s`,
  ];
  return [what, device.capabilities, memory].map((words, i) => words.filter((word) => word !== '').join(i === 1 ? ' ' : ' · ')).filter((line) => line !== '');
}

export const tokenize = {
  help: 'ternion tokenize TEXT [-m FILE] [--special] [--bos] [--json]\n\nToken ids and their text.\nJSON: [{ token, text }]',
  async run(args: string[], signal: AbortSignal): Promise<number> {
    const { values, positionals } = parse(args, { ...common, ...loading, special: { type: 'boolean' }, bos: { type: 'boolean' } });
    const text = positionals[0];
    if (text === undefined || positionals.length > 1) throw new UsageError('tokenize takes one TEXT (quote it)');
    await using model = await openModel({ device: ['cpu'], ...values }, signal);
    const tokens = await model.tokenize(text, { special: values['special'] === true, bos: values['bos'] === true });
    const rows = await Promise.all([...tokens].map(async (token) => ({ token, text: await model.detokenize([token], { special: true }) })));
    if (values['json'] === true) console.log(JSON.stringify(rows));
    else for (const { token, text: piece } of rows) console.log(`${String(token).padStart(7)}  ${JSON.stringify(piece)}`);
    return 0;
  },
};
