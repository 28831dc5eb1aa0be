/** `ternion devices`, `ternion inspect FILE`, `ternion tokenize TEXT`. */
import { devices as listDevices } from '../devices.js';
import { inspect as inspectFile } from '../inspect.js';
import { common, loading, parse, UsageError } from './options.js';
import { openModel } from './terminal.js';

const mib = (bytes: number) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

export const devices = {
  help: 'ternion devices [--json]\n\nLists what a model can run on, and why a backend offers nothing.\nJSON: { devices: [{ id, name, description, backend, kind, totalBytes, freeBytes }], unavailable: [{ backend, reason }] }',
  async run(args: string[]): Promise<number> {
    const { values } = parse(args, common);
    const list = await listDevices();
    if (values['json'] === true) {
      console.log(JSON.stringify({ devices: list, unavailable: list.unavailable }));
      return 0;
    }
    for (const device of list) {
      console.log(`${device.id.padEnd(10)} ${device.kind.padEnd(5)} ${mib(device.freeBytes)} free of ${mib(device.totalBytes)}  ${device.description}`);
    }
    for (const { backend, reason } of list.unavailable) console.log(`${backend.padEnd(10)} –     ${reason}`);
    return 0;
  },
};

export const inspect = {
  help: 'ternion inspect FILE [--json]\n\nMetadata, tensors and sizes by type of a GGUF file.\nJSON: { version, alignment, dataOffset, fileBytes, metadata: [{ key, type, value, length? }], tensors: [{ name, type, shape, bytes, offset }] }',
  async run(args: string[]): Promise<number> {
    const { values, positionals } = parse(args, common);
    const path = positionals[0];
    if (path === undefined || positionals.length > 1) throw new UsageError('inspect takes one FILE');
    const file = await inspectFile(path);
    if (values['json'] === true) {
      console.log(JSON.stringify(file, (_, value: unknown) => (typeof value === 'bigint' ? value.toString() : value)));
      return 0;
    }
    console.log(`GGUF v${file.version}, ${mib(file.fileBytes)}, ${file.tensors.length} tensors, data from byte ${file.dataOffset}\n`);
    for (const { key, type, value, length } of file.metadata) {
      const shown = Array.isArray(value) ? `${value.slice(0, 6).map(String).join(', ')}${(length ?? 0) > 6 ? ', …' : ''} (${length})` : String(value);
      const line = JSON.stringify(shown).slice(1, -1);
      console.log(`${key}  ${type}  ${line.length > 100 ? `${line.slice(0, 100)}…` : line}`);
    }
    const types = new Map<string, { count: number; bytes: number }>();
    console.log('');
    for (const tensor of file.tensors) {
      console.log(`${tensor.name}  ${tensor.type}  ${tensor.shape.join(' × ')}  ${mib(tensor.bytes)}`);
      const sum = types.get(tensor.type) ?? { count: 0, bytes: 0 };
      types.set(tensor.type, { count: sum.count + 1, bytes: sum.bytes + tensor.bytes });
    }
    console.log('');
    for (const [type, { count, bytes }] of types) console.log(`${type}: ${count} tensors, ${mib(bytes)}`);
    return 0;
  },
};

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
