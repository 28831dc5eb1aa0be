#include "check.h"

#include "engine/random_weights.h"
#include "engine/ternary_pack.h"

#include "ggml.h"

#include <cstring>
#include <vector>

using namespace ternion;

namespace {

std::vector<int8_t> random_trits(size_t n, const char * name) {
    RandomBits random(1, name);
    std::vector<int8_t> out(n);
    for (int8_t & weight : out) {
        weight = static_cast<int8_t>(static_cast<int>(random.next() % 3) - 1);
    }
    return out;
}

// Blocks are those that ggml's own quantiser makes of the same weights, and ggml reads the weights back from them.
void blocks_are_ggmls() {
    constexpr size_t n = 256 * 16;
    const ggml_fp16_t d = ggml_fp32_to_fp16(0.37f);
    const float scale = ggml_fp16_to_fp32(d);
    const auto weights = random_trits(n, "blocks");
    std::vector<float> floats(n), again(n);
    for (size_t i = 0; i < n; ++i) {
        floats[i] = scale * weights[i];
    }
    for (const ggml_type type : {GGML_TYPE_TQ1_0, GGML_TYPE_TQ2_0}) {
        std::vector<uint8_t> ours(ggml_row_size(type, n)), theirs(ours.size());
        pack_blocks(type, weights.data(), n, d, ours.data());
        ggml_quantize_chunk(type, floats.data(), theirs.data(), 0, 1, n, nullptr);
        CHECK(ours == theirs);
        ggml_get_type_traits(type)->to_float(ours.data(), again.data(), n);
        CHECK(again == floats);
    }
}

// Bytes by hand from the formats' descriptions.
void codes_mean_what_the_formats_say() {
    uint8_t i2_s[32] = {};
    std::memset(i2_s, 0x55, sizeof(i2_s)); // all zero
    i2_s[3] = 0b10'00'01'10;                // weights 3, 35, 67, 99: 1, -1, 0, 1
    int8_t out[256];
    CHECK(unpack_row(Packing::i2_s, i2_s, 128, out));
    CHECK(out[3] == 1 && out[35] == -1 && out[67] == 0 && out[99] == 1);
    out[3] = out[35] = out[99] = 0;
    for (int i = 0; i < 128; ++i) {
        CHECK(out[i] == 0);
    }

    const uint8_t two_bit[] = {0b00'01'10'00, 0b01'01'01'10};
    CHECK(unpack_row(Packing::two_bit, two_bit, 5, out));
    const int8_t expected_two_bit[] = {-1, 1, 0, -1, 1};
    CHECK(std::memcmp(out, expected_two_bit, 5) == 0);

    // Eight codes of five bits, lowest first: zero's place, then signs of the other three.
    const uint64_t codes[] = {0b00'111, 0b01'101, 0b10'000, 0b11'010, 0b00'001, 0b01'011, 0b10'100, 0b11'110};
    const int8_t expected_five_bit[] = {0, 1, 1, 1, 1, 0, -1, 1, -1, -1, 0, -1, -1, 1, -1, 0, 0, 1, -1, -1, 1, 0, 1, -1, -1, -1, 0, 1, -1, 1, 1, 0};
    uint64_t stream = 0;
    for (int i = 0; i < 8; ++i) {
        stream |= codes[i] << 5 * i;
    }
    uint8_t five_bit[5];
    std::memcpy(five_bit, &stream, sizeof(five_bit));
    CHECK(unpack_row(Packing::five_bit, five_bit, 32, out));
    CHECK(std::memcmp(out, expected_five_bit, 32) == 0);

    const uint8_t base3[] = {0 + 3 * 1 + 9 * 2 + 27 * 0 + 81 * 1, 2 + 3 * 2, 121, 121};
    CHECK(unpack_row(Packing::base3, base3, 7, out));
    const int8_t expected_base3[] = {-1, 0, 1, -1, 0, 1, 1};
    CHECK(std::memcmp(out, expected_base3, 7) == 0);
}

void rows_have_their_sizes() {
    CHECK(packed_row_bytes(Packing::i2_s, 256) == 64);
    CHECK(packed_row_bytes(Packing::two_bit, 257) == 65);
    CHECK(packed_row_bytes(Packing::five_bit, 256) == 40);
    CHECK(packed_row_bytes(Packing::base3, 256) == 52); // 260 weights
    CHECK(packed_row_bytes(Packing::base3, 260) == 52);
}

void what_is_no_weight_is_refused() {
    int8_t out[128];
    uint8_t row[32] = {};
    CHECK(unpack_row(Packing::i2_s, row, 128, out));
    row[31] = 3;
    CHECK(!unpack_row(Packing::i2_s, row, 128, out));
    CHECK(!unpack_row(Packing::two_bit, row, 128, out));
    CHECK(unpack_row(Packing::two_bit, row, 124, out)); // the code is behind the row's end
    row[0] = 242;
    CHECK(unpack_row(Packing::base3, row, 5, out));
    row[0] = 243;
    CHECK(!unpack_row(Packing::base3, row, 5, out));
}

} // namespace

int main() {
    blocks_are_ggmls();
    codes_mean_what_the_formats_say();
    rows_have_their_sizes();
    what_is_no_weight_is_refused();
    return finish_tests();
}
