// Which shorter models tell the time of a whole one.
#include "step_time.h"

#include <algorithm>
#include <cmath>
#include <optional>

namespace ternion {
namespace {

using Row = std::vector<double>;

/// Factors by which `rows` add up to `target`; none if they do not. Rows are linearly independent.
std::optional<Row> factors_of(const std::vector<Row> & rows, const Row & target) {
    const size_t n = rows.size(), m = target.size();
    std::vector<Row> system(m, Row(n + 1)); // a column for each row, and the target
    for (size_t i = 0; i < m; ++i) {
        for (size_t j = 0; j < n; ++j) {
            system[i][j] = rows[j][i];
        }
        system[i][n] = target[i];
    }
    size_t done = 0;
    for (size_t column = 0; column < n; ++column) {
        const auto pivot = std::max_element(system.begin() + static_cast<std::ptrdiff_t>(done), system.end(),
                                            [&](const Row & a, const Row & b) { return std::fabs(a[column]) < std::fabs(b[column]); });
        if (pivot == system.end() || std::fabs((*pivot)[column]) < 1e-9) {
            return std::nullopt;
        }
        std::swap(*pivot, system[done]);
        for (size_t i = 0; i < m; ++i) {
            const double factor = i == done ? 0.0 : system[i][column] / system[done][column];
            for (size_t j = column; j <= n && factor != 0.0; ++j) {
                system[i][j] -= factor * system[done][j];
            }
        }
        done++;
    }
    Row factors(n);
    for (size_t i = 0; i < m; ++i) {
        if (i < n) {
            factors[i] = system[i][n] / system[i][i];
        } else if (std::fabs(system[i][n]) > 1e-9) {
            return std::nullopt;
        }
    }
    return factors;
}

} // namespace

LayerCuts layer_cuts(const std::vector<int32_t> & kind) {
    const auto all = static_cast<int32_t>(kind.size());
    const size_t kinds = kind.empty() ? 0 : static_cast<size_t>(*std::max_element(kind.begin(), kind.end())) + 1;
    // The last layer computes one token's outputs only, so cuts end with a layer of the kind that the model ends with.
    const auto row_of = [&](int32_t layers) {
        Row row(kinds + 1);
        row[kinds] = 1.0;
        for (int32_t i = 0; i + 1 < layers; ++i) {
            row[static_cast<size_t>(kind[static_cast<size_t>(i)])] += 1.0;
        }
        return row;
    };
    LayerCuts cuts;
    std::vector<Row> rows;
    for (int32_t layers = 1; layers < all; ++layers) {
        if (kind[static_cast<size_t>(layers - 1)] != kind.back()) {
            continue;
        }
        const Row row = row_of(layers);
        if (!rows.empty() && factors_of(rows, row)) {
            continue; // says nothing new
        }
        rows.push_back(row);
        cuts.layers.push_back(layers);
        if (auto factors = factors_of(rows, row_of(all))) {
            cuts.factors = std::move(*factors);
            return cuts;
        }
    }
    return {{all}, {1.0}};
}

} // namespace ternion
