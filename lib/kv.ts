/** Types of KV cache entries. Quantised ones need flash attention, which is used where the device has it. */
export const kvTypes = ['f32', 'f16', 'bf16', 'q8_0', 'q5_1', 'q5_0', 'q4_1', 'q4_0', 'iq4_nl'] as const;
export type KvType = (typeof kvTypes)[number];
