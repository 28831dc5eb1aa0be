#include "kernel_bench.h"

#include "backend.h"
#include "block_layout.h"
#include "random_weights.h"
#include "thread_budget.h"

#include "kernels/cpu/kernels.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace ternion {
namespace {

constexpr int64_t most_known_columns = 8;
constexpr int64_t most_known_products = 16 << 20; // of a weight and an activation, for the exact results

std::vector<float> random_activations(size_t n) {
    RandomBits random(1, "activations");
    std::vector<float> values(n);
    for (float & value : values) { // uniform in [-1, 1)
        value = static_cast<float>(static_cast<int32_t>(random.next() >> 40) - (1 << 23)) * 0x1p-23f;
    }
    return values;
}

/// Ways to choose experts: each token takes the next ones of a shuffled row of all, so that the load is even and no expert is chosen
/// again before all others were. After the last way the first one is next in the row.
std::vector<std::vector<int32_t>> even_routings(const Product & product) {
    if (product.experts == 0) {
        return {};
    }
    std::vector<int32_t> row(static_cast<size_t>(product.experts));
    std::iota(row.begin(), row.end(), 0);
    RandomBits random(1, "experts");
    for (size_t i = row.size(); i > 1; --i) {
        std::swap(row[i - 1], row[random.next() % i]);
    }
    std::vector<std::vector<int32_t>> routings(static_cast<size_t>(product.experts / std::gcd(product.experts, product.outputs())));
    size_t next = 0;
    for (std::vector<int32_t> & routing : routings) {
        for (int64_t i = 0; i < product.outputs(); ++i) {
            routing.push_back(row[next++ % row.size()]);
        }
    }
    return routings;
}

/// `count` of the numbers 0 … n - 1, evenly spread, the first and the last among them.
std::vector<int64_t> spread(int64_t n, int64_t count) {
    count = std::clamp<int64_t>(count, 1, n);
    std::vector<int64_t> chosen(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) {
        chosen[static_cast<size_t>(i)] = count == 1 ? n - 1 : i * (n - 1) / (count - 1);
    }
    return chosen;
}

void to_floats(ggml_type type, const uint8_t * row, std::vector<float> & out) {
    if (type == GGML_TYPE_F32) {
        std::copy_n(reinterpret_cast<const float *>(row), out.size(), out.data());
    } else {
        ggml_get_type_traits(type)->to_float(row, out.data(), static_cast<int64_t>(out.size()));
    }
}

Error refuse(const std::string & what) {
    return Error{ErrorCode::invalid_arg, what};
}

Result<Product> read_product(const KernelBenchOptions & options) {
    constexpr int64_t most = 1 << 24;
    Product product{type_by_name(options.type), options.rows, options.columns, options.tokens, options.experts, options.used};
    if (product.type == GGML_TYPE_COUNT || !can_be_random(product.type)) {
        return refuse("there is no type '" + options.type + "' that can be filled with random weights");
    }
    const int64_t block = ggml_blck_size(product.type);
    if (product.rows < 1 || product.rows > most || product.columns < 1 || product.columns > most || product.columns % block != 0) {
        return refuse("a matrix of " + options.type + " has 1 to 2^24 rows of a multiple of " + std::to_string(block) + " weights; found " +
                      std::to_string(product.rows) + " rows of " + std::to_string(product.columns));
    }
    if (product.tokens < 1 || product.tokens > 65536 || options.copies < 1 || options.copies > 65536) {
        return refuse("tokens and copies are 1 to 65536");
    }
    if (product.experts < 0 || product.experts > 65536 || (product.experts > 0 && (product.used < 1 || product.used > product.experts))) {
        return refuse("of " + std::to_string(product.experts) + " experts, " + std::to_string(product.used) + " cannot work on a token");
    }
    return product;
}

} // namespace

KernelBench::KernelBench(const Product & product, const std::vector<std::vector<int32_t>> & routings)
    : product_(product), activations_(random_activations(static_cast<size_t>(product.columns * product.tokens))), operands_(product, activations_, routings) {}

Result<std::unique_ptr<KernelBench>> KernelBench::create(const KernelBenchOptions & options, const std::atomic<bool> & cancel) {
    backend_init();
    const auto product = read_product(options);
    if (!product) {
        return product.error();
    }
    std::vector<uint8_t> file(product->file_bytes());
    RandomBits random(1, "matrix");
    random_weights(product->type, 1.0 / std::sqrt(static_cast<double>(product->columns)), random, file.data(),
                   file.size() / ggml_type_size(product->type));
    const auto routings = even_routings(*product);
    std::unique_ptr<KernelBench> bench(new KernelBench(*product, routings));
    const auto chosen_per_product = static_cast<size_t>(std::min(product->matrices(), product->outputs()));
    for (const Multiplier & multiplier : multipliers()) {
        if (std::find(options.kernels.begin(), options.kernels.end(), multiplier.name) == options.kernels.end() || !takes(multiplier, *product)) {
            continue;
        }
        auto weights = Weights::make(multiplier, *product, options.copies, file, cancel);
        if (!weights) {
            return weights.error();
        }
        const size_t read = product->experts > 0 ? (*weights)->bytes() / static_cast<size_t>(product->experts) * chosen_per_product : (*weights)->bytes();
        bench->systems_.push_back({multiplier.name, multiplier.choice.kernels != nullptr, read});
        bench->weights_.push_back(std::move(*weights));
    }
    bench->next_.resize(bench->systems_.size());
    if (auto ok = bench->know(file, routings, cancel); !ok) {
        return ok.error();
    }
    return bench;
}

CpuRunner & KernelBench::runner(int threads) {
    return runners_.try_emplace(threads, threads).first->second;
}

Result<double> KernelBench::sample(size_t system, int threads, size_t products, const std::atomic<bool> & cancel) {
    const ThreadBudget::Turn turn; // no model of this process computes meanwhile
    size_t & next = next_[system];
    const auto woken = runner(threads).run(operands_, *weights_[system], next++, 1, cancel);
    if (!woken) {
        return woken.error();
    }
    const size_t first = next;
    next += products;
    return runner(threads).run(operands_, *weights_[system], first, products, cancel);
}

/// The rows and columns that are looked at, and what stands there.
Result<bool> KernelBench::know(const std::vector<uint8_t> & file, const std::vector<std::vector<int32_t>> & routings, const std::atomic<bool> & cancel) {
    known_.columns = spread(product_.outputs(), most_known_columns);
    const auto n_columns = static_cast<int64_t>(known_.columns.size());
    known_.rows = spread(product_.rows, most_known_products / product_.columns / n_columns);
    const size_t row_bytes = product_.row_bytes(), length = static_cast<size_t>(product_.columns);

    // What is looked at is a mixture of its own: an expert for each column, with the rows in question.
    const Product part{product_.type, static_cast<int64_t>(known_.rows.size()), product_.columns, n_columns, n_columns, 1};
    std::vector<uint8_t> part_file;
    std::vector<float> part_activations;
    std::vector<int32_t> part_routing(known_.columns.size());
    std::iota(part_routing.begin(), part_routing.end(), 0);
    std::vector<float> weights(length);
    for (const int64_t column : known_.columns) {
        if (cancel) {
            return Error{ErrorCode::aborted, "measuring was aborted"};
        }
        const int64_t matrix = routings.empty() ? 0 : routings.front()[static_cast<size_t>(column)];
        const int64_t token = routings.empty() ? column : column / product_.used;
        const float * in = activations_.data() + static_cast<size_t>(token) * length;
        part_activations.insert(part_activations.end(), in, in + length);
        for (const int64_t r : known_.rows) {
            const uint8_t * row = file.data() + static_cast<size_t>(matrix * product_.rows + r) * row_bytes;
            part_file.insert(part_file.end(), row, row + row_bytes);
            to_floats(product_.type, row, weights);
            double sum = 0.0;
            for (size_t k = 0; k < length; ++k) {
                sum += static_cast<double>(weights[k]) * static_cast<double>(in[k]);
            }
            known_.exact.push_back(sum);
        }
    }

    const auto all = multipliers();
    const auto scalar = std::find_if(all.begin(), all.end(), [](const Multiplier & m) { return m.name == kernels::scalar_kernels.name; });
    if (!takes(*scalar, part)) {
        return true;
    }
    const auto scalar_weights = Weights::make(*scalar, part, 1, part_file, cancel);
    if (!scalar_weights) {
        return scalar_weights.error();
    }
    const Operands operands(part, part_activations, {part_routing});
    const auto done = runner(1).run(operands, **scalar_weights, 0, 1, cancel);
    if (!done) {
        return done.error();
    }
    known_.scalar.assign(operands.result(), operands.result() + known_.exact.size());
    return true;
}

Result<ProductError> KernelBench::error(size_t system, int threads, const std::atomic<bool> & cancel) {
    std::fill_n(operands_.result(), product_.rows * product_.outputs(), std::numeric_limits<float>::quiet_NaN()); // what is not computed shows
    const auto done = runner(threads).run(operands_, *weights_[system], 0, 1, cancel);
    if (!done) {
        return done.error();
    }
    double squares = 0.0, exact_squares = 0.0, exact_largest = 0.0, scalar_difference = 0.0, scalar_largest = 0.0;
    ProductError error;
    const auto raise = [](double & to, double value) { to = std::isnan(to) || to >= value ? to : value; }; // std::max would drop a NaN
    for (const int64_t column : known_.columns) {
        for (const int64_t row : known_.rows) {
            const auto found = static_cast<double>(operands_.result()[column * product_.rows + row]);
            const double difference = found - known_.exact[error.outputs];
            squares += difference * difference;
            exact_squares += known_.exact[error.outputs] * known_.exact[error.outputs];
            raise(error.largest, std::fabs(difference));
            raise(exact_largest, std::fabs(known_.exact[error.outputs]));
            if (!known_.scalar.empty()) {
                const auto scalar = static_cast<double>(known_.scalar[error.outputs]);
                raise(scalar_difference, std::fabs(found - scalar));
                raise(scalar_largest, std::fabs(scalar));
            }
            error.outputs++;
        }
    }
    error.rms = std::sqrt(squares / exact_squares);
    error.largest /= exact_largest;
    if (!known_.scalar.empty()) {
        error.from_scalar = scalar_difference / scalar_largest;
    }
    return error;
}

std::vector<MeasurableType> measurable_types() {
    std::vector<MeasurableType> types;
    for (int i = 0; i < GGML_TYPE_COUNT; ++i) {
        const auto type = static_cast<ggml_type>(i);
        if (ggml_blck_size(type) > 0 && can_be_random(type)) {
            types.push_back({ggml_type_name(type), ggml_blck_size(type), ggml_type_size(type)});
        }
    }
    return types;
}

} // namespace ternion
