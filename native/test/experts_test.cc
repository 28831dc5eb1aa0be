// Products of a mixture's experts, by every set of kernels.
#include "check.h"
#include "matrices.h"

#include "ggml-cpu.h"

#include <cstdio>

using namespace ternion::kernels;

namespace {

// Each product with the matrix that its number says, bit for bit what the matrix alone gives; numbers out of range are left alone.
void experts_are_chosen_by_number() {
    constexpr size_t experts = 5, rows = 70, columns = 512;
    for_each_system([](const System & on) {
        const Matrix m = random_matrix(on.format, rows, columns, experts);
        const Packed packed(on.way, m);
        for (const size_t tokens : {1, 2, 9, 40}) {
            for (const size_t slots : {1, 3}) {
                for (const size_t inputs : {size_t{1}, slots}) {
                    const size_t n = tokens * slots;
                    std::vector<int32_t> ids(n + tokens); // rows are further apart than slots
                    ternion::RandomBits random(tokens, "ids");
                    for (int32_t & id : ids) {
                        id = static_cast<int32_t>(random.next() % (experts + 1)) - (random.next() % 16 == 0);
                    }
                    const std::vector<float> in = activations(columns * inputs * tokens);
                    std::vector<float> out(rows * n, -1.0f);
                    std::vector<uint8_t> scratch(matmul_scratch(on.kernels, packed.view, n, 1));
                    const Routing routing{reinterpret_cast<const char *>(ids.data()), slots, sizeof(int32_t), (slots + 1) * sizeof(int32_t), inputs};
                    matmul(on.kernels, packed.view, columns_at(in, columns, inputs, tokens), columns_at(out, rows, slots, tokens), routing, n, scratch.data(), {});
                    size_t wrong = 0;
                    for (size_t i = 0; i < n; ++i) {
                        const int32_t id = ids[i / slots * (slots + 1) + i % slots];
                        std::vector<float> expected(rows, -1.0f);
                        if (id >= 0 && id < static_cast<int32_t>(experts)) {
                            Matrix one{on.format, rows, columns, 1, {m.row(static_cast<size_t>(id) * rows), m.row(static_cast<size_t>(id + 1) * rows)}};
                            const size_t column = i / slots * inputs + (inputs > 1 ? i % slots : 0);
                            expected = multiply(on, one, {in.begin() + static_cast<long>(column * columns), in.begin() + static_cast<long>((column + 1) * columns)}, 1);
                        }
                        wrong += std::memcmp(expected.data(), out.data() + i * rows, rows * sizeof(float)) != 0;
                    }
                    if (wrong) {
                        std::fprintf(stderr, "%s: %zu of %zu products wrong (%zu tokens, %zu slots, %zu inputs)\n", on.name().c_str(), wrong, n, tokens, slots, inputs);
                    }
                    CHECK(wrong == 0);
                }
            }
        }
    });
}

} // namespace

int main() {
    ggml_cpu_init();
    experts_are_chosen_by_number();
    return finish_tests();
}
