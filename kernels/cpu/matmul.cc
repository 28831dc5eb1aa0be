#include "matmul.h"

#include "../formats/pack.h"
#include "panels.h"
#include "shared_activations.h"

#include "ggml-cpu/ggml-cpu-impl.h"

#include <algorithm>
#include <cstring>

namespace ternion::kernels {
namespace {

// Up to so many products of a matrix every thread prepares the activations for itself: cheaper than waiting for each other.
constexpr size_t few = 2;
// The same for all matrices together.
constexpr size_t few_in_all = 32;
// Row groups that one thread takes at a time; its part of the matrix stays in the cache for all columns.
constexpr size_t groups_per_task = 4;
static_assert(groups_per_task % strip_groups(Layout::sherry) == 0);
static_assert(few == Prepared::most_columns);
// Up to so many columns coded weights are multiplied as they are: expanding them costs as much as multiplying them with five.
constexpr size_t direct_columns = 32;

/// Products with one matrix: entries [first, first + count) of the order.
struct Segment {
    uint32_t matrix;
    uint32_t first;
    uint32_t count;
};

/// The products sorted by their matrix. Every thread makes its own; they are alike.
struct Order {
    uint32_t * products;
    Segment * segments;
    size_t n_products;
    size_t n_segments;
    size_t largest; // products of a segment
    size_t n_panels;
};

struct Scratch {
    uint8_t * at;

    template <typename T>
    T * take(size_t count) {
        T * const taken = reinterpret_cast<T *>(at);
        at += aligned(count * sizeof(T));
        return taken;
    }
};

size_t segments_at_most(const PackedMatrix & matrix, size_t n_products) {
    return std::min(matrix.count, n_products);
}

size_t panels_at_most(const PackedMatrix & matrix, size_t n_products) {
    return segments_at_most(matrix, n_products) + n_products / panel_columns;
}

size_t order_bytes(const PackedMatrix & matrix, size_t n_products) {
    return aligned(n_products * sizeof(uint32_t)) + aligned(segments_at_most(matrix, n_products) * sizeof(Segment)) + aligned((matrix.count + 1) * sizeof(uint32_t));
}

PanelPlace panel_place(const PackedMatrix & matrix, size_t columns, uint8_t * base) {
    const size_t block = tile_columns(matrix.layout);
    return {columns, matrix.columns / block, block, matrix.layout == Layout::six_bits ? size_t{16} : size_t{1}, base};
}

const CodedKernels * lookup_kernels(const Kernels & kernels, const PackedMatrix & matrix, size_t n_products) {
    const CodedKernels * coded = coded_kernels(kernels, matrix.layout);
    return matrix.look_up && (!coded->multiply || n_products == 1) ? coded : nullptr;
}

/// What one column takes up when it is prepared for few products.
size_t column_bytes(const Kernels & kernels, const PackedMatrix & matrix) {
    const CodedKernels * coded = lookup_kernels(kernels, matrix, 1);
    return std::max(panel_place(matrix, 1, nullptr).bytes(), coded ? TablePlace{matrix.columns / 256, coded->table_bytes, nullptr}.bytes() : 0);
}

size_t expanded_bytes(const Kernels & kernels, const PackedMatrix & matrix) {
    return coded_kernels(kernels, matrix.layout) ? groups_per_task * (matrix.columns / 256) * sizeof(TernaryTile) : 0;
}

Order sort(const PackedMatrix & matrix, const Routing & routing, size_t n_products, Scratch & scratch) {
    Order order{scratch.take<uint32_t>(n_products), scratch.take<Segment>(segments_at_most(matrix, n_products)), n_products, 0, 0, 0};
    auto * const next = scratch.take<uint32_t>(matrix.count + 1);
    if (!routing.ids) {
        for (uint32_t i = 0; i < n_products; ++i) {
            order.products[i] = i;
        }
        order.segments[order.n_segments++] = {0, 0, static_cast<uint32_t>(n_products)};
    } else {
        const auto matrix_of = [&](size_t i) {
            int32_t id;
            std::memcpy(&id, routing.ids + i / routing.slots * routing.token_stride + i % routing.slots * routing.slot_stride, sizeof(id));
            return static_cast<uint32_t>(id);
        };
        std::fill_n(next, matrix.count + 1, 0u);
        for (size_t i = 0; i < n_products; ++i) {
            const uint32_t m = matrix_of(i);
            if (m < matrix.count) {
                next[m + 1]++;
            }
        }
        for (uint32_t m = 0; m < matrix.count; ++m) {
            if (next[m + 1] > 0) {
                order.segments[order.n_segments++] = {m, next[m], next[m + 1]};
            }
            next[m + 1] += next[m];
        }
        for (uint32_t i = 0; i < n_products; ++i) {
            const uint32_t m = matrix_of(i);
            if (m < matrix.count) {
                order.products[next[m]++] = i;
            }
        }
    }
    for (size_t s = 0; s < order.n_segments; ++s) {
        order.largest = std::max<size_t>(order.largest, order.segments[s].count);
        order.n_panels += (order.segments[s].count + panel_columns - 1) / panel_columns;
    }
    return order;
}

/// The operation as a whole, for one thread.
struct Job {
    const Kernels & kernels;
    const PackedMatrix & matrix;
    const Columns & in;
    const Columns & out;
    const Routing & routing;
    const Worker & worker;
    uint8_t * shared; // scratch of all threads together
    const CodedKernels * coded; // of the matrix's layout; null: it has none
    bool direct;                // coded weights are multiplied as they are

    size_t n_groups() const { return row_groups(matrix.rows); }
    size_t n_blocks() const { return matrix.columns / tile_columns(matrix.layout); }
    TileMap map() const { return {matrix.layout, n_groups(), n_blocks()}; }
    const uint8_t * data(size_t m) const { return matrix.data + m * n_groups() * n_blocks() * tile_bytes(matrix.layout); }
    const float * input(size_t product) const {
        return in.at(product / routing.slots * routing.inputs + (routing.inputs > 1 ? product % routing.slots : 0));
    }

    void store(size_t group, const float * result, float * to) const {
        const size_t first = group * tile_rows;
        if (matrix.rows - first >= tile_rows) {
            std::memcpy(to + first, result, tile_rows * sizeof(float)); // of known size: a few instructions
        } else {
            std::memcpy(to + first, result, (matrix.rows - first) * sizeof(float));
        }
    }

    void (*panel_order() const)(int8_t *) { return direct ? coded->order : nullptr; }

    // Row groups [first, last), from the start of a strip on, with a panel. `room` is for expanded tiles, of these groups already
    // there if `expanded`.
    void multiply(size_t m, size_t first, size_t last, const Panel & panel, const uint32_t * products, uint8_t * room, bool expanded) const {
        alignas(64) float result[strip_groups(Layout::sherry) * panel_columns][tile_rows];
        float * to[panel_columns];
        for (size_t c = 0; c < panel.columns; ++c) {
            to[c] = out.at(products[c]);
        }
        const size_t step = direct ? strip_groups(matrix.layout) : 1;
        for (size_t group = first; group < last; group += step) {
            const size_t n = std::min(step, last - group);
            const uint8_t * tiles = data(m) + map().at(group, 0);
            if (direct) {
                coded->multiply(tiles, n, n_blocks(), panel, result);
            } else if (matrix.layout == Layout::bytes) {
                kernels.bytes(reinterpret_cast<const ByteTile *>(tiles), n_blocks(), panel, result);
            } else if (matrix.layout == Layout::six_bits) {
                kernels.six_bits(reinterpret_cast<const SixBitTile *>(tiles), n_blocks(), panel, result);
            } else if (matrix.layout == Layout::ternary) {
                kernels.ternary(reinterpret_cast<const TernaryTile *>(tiles), n_blocks(), panel, result);
            } else {
                auto * const ready = reinterpret_cast<TernaryTile *>(room) + (group - first) * n_blocks();
                for (size_t b = 0; b < n_blocks() && !expanded; ++b) {
                    coded->expand(data(m) + map().at(group, b), ready[b]);
                }
                kernels.ternary(ready, n_blocks(), panel, result);
            }
            for (size_t g = 0, i = 0; g < n; ++g) {
                for (size_t c = 0; c < panel.columns; ++c, ++i) {
                    store(group + g, result[i], to[c]);
                }
            }
        }
    }

    Preparation preparation(const void * order, size_t n_products) const {
        const PanelPlace place = panel_place(matrix, 1, nullptr);
        return {matrix.columns, place.block, place.offsets_per_block, order, n_products, matrix.count};
    }

    // Where the thread keeps what it prepares for few products. `none`: nowhere.
    Prepared & few_prepared(const CodedKernels * tables, Prepared & none) const {
        if (!worker.shared) {
            return none;
        }
        Prepared & own = worker.shared->own[worker.index];
        const Preparation how = preparation(tables ? reinterpret_cast<const void *>(tables->make_tables) : reinterpret_cast<const void *>(panel_order()), 0);
        if (!own.reserve(few * column_bytes(kernels, matrix))) {
            return none;
        }
        if (!own.serves(*worker.operation, how)) {
            std::fill_n(own.columns, few, nullptr);
        }
        own.keep(*worker.operation, how);
        return own;
    }

    // The thread's share of the strips of all segments, with no word to the other threads.
    void few_products(const Order & order, Scratch scratch) const {
        const CodedKernels * tables = lookup_kernels(kernels, matrix, order.largest);
        const size_t per_strip = strip_groups(matrix.layout);
        const size_t n_strips = (n_groups() + per_strip - 1) / per_strip;
        const size_t all = order.n_segments * n_strips;
        const size_t last = all * (worker.index + 1) / worker.count;
        Prepared none;
        Prepared & prepared = few_prepared(tables, none);
        // What is prepared stays for other matrices, in memory of the thread's own; the rest of the scratch is free for each segment.
        uint8_t * const memory = prepared.data() ? prepared.data() : scratch.take<uint8_t>(few * column_bytes(kernels, matrix));
        for (size_t at = all * worker.index / worker.count; at < last;) {
            const Segment & segment = order.segments[at / n_strips];
            const uint32_t * products = order.products + segment.first;
            const size_t strip = at % n_strips;
            const size_t n = std::min(n_strips - strip, last - at);
            if (tables) {
                look_up(*tables, segment, products, strip, n, prepared.columns, memory);
            } else {
                multiply_few(segment, products, strip * per_strip, std::min(n_groups(), (strip + n) * per_strip), prepared.columns, memory, scratch.at);
            }
            at += n;
        }
    }

    void look_up(const CodedKernels & tables, const Segment & segment, const uint32_t * products, size_t first, size_t n, const float * (&prepared)[few], uint8_t * memory) const {
        TablePlace places[few];
        for (size_t c = 0; c < segment.count; ++c) {
            places[c] = {n_blocks(), tables.table_bytes, memory};
            memory += places[c].bytes();
            if (const float * column = input(products[c]); prepared[c] != column) {
                fill_tables(kernels, tables, places[c], column);
                prepared[c] = column;
            }
        }
        alignas(64) float result[lookup_groups][tile_rows];
        const size_t last = std::min(n_groups(), (first + n) * strip_groups(matrix.layout));
        for (size_t group = first * strip_groups(matrix.layout); group < last; group += lookup_groups) {
            const size_t together = std::min(lookup_groups, last - group);
            for (size_t c = 0; c < segment.count; ++c) {
                tables.lookup(data(segment.matrix) + map().at(group, 0), together, n_blocks(), places[c].tables(), places[c].scales(), result);
                float * const to = out.at(products[c]);
                for (size_t g = 0; g < together; ++g) {
                    store(group + g, result[g], to);
                }
            }
        }
    }

    void multiply_few(const Segment & segment, const uint32_t * products, size_t first, size_t last, const float * (&prepared)[few], uint8_t * memory, uint8_t * room) const {
        const float * columns[few] = {};
        for (size_t c = 0; c < segment.count; ++c) {
            columns[c] = input(products[c]);
        }
        const PanelPlace place = panel_place(matrix, segment.count, memory);
        if (!std::equal(columns, columns + few, prepared)) {
            fill_panel(kernels, place, panel_order(), columns, 0, place.n_blocks);
            std::copy_n(columns, few, prepared);
        }
        for (size_t group = first; group < last; group += groups_per_task) {
            multiply(segment.matrix, group, std::min(last, group + groups_per_task), place.panel(), products, room, false);
        }
    }

    void many_products(const Order & order, Scratch scratch) const {
        auto * const panels = scratch.take<PanelPlace>(order.n_panels + 1); // the thread's own; what they point at is shared
        uint8_t * const expanded = scratch.take<uint8_t>(expanded_bytes(kernels, matrix));
        // Memory that is too small now is large enough next time. Every thread reads this before the barrier; the first one writes after it.
        Prepared * const common = worker.shared ? &worker.shared->common : nullptr;
        const size_t bytes = panels_at_most(matrix, order.n_products) * panel_place(matrix, panel_columns, nullptr).bytes();
        const Preparation how = preparation(reinterpret_cast<const void *>(panel_order()), order.n_products);
        const bool kept = common && common->capacity() >= bytes;
        const bool there = kept && common->serves(*worker.operation, how);
        uint8_t * base = kept ? common->data() : shared;
        size_t p = 0;
        for (size_t s = 0; s < order.n_segments; ++s) {
            const Segment & segment = order.segments[s];
            for (size_t i = 0; i < segment.count; i += panel_columns, ++p) {
                panels[p] = panel_place(matrix, std::min<size_t>(panel_columns, segment.count - i), base);
                base += panels[p].bytes();
                if (there) {
                    continue;
                }
                const float * columns[panel_columns] = {};
                for (size_t c = 0; c < panels[p].columns; ++c) {
                    columns[c] = input(order.products[segment.first + i + c]);
                }
                fill_panel(kernels, panels[p], panel_order(), columns, n_blocks() * worker.index / worker.count, n_blocks() * (worker.index + 1) / worker.count);
            }
        }
        if (worker.pool) {
            if (worker.index == 0) {
                ggml_threadpool_chunk_set(worker.pool, static_cast<int>(worker.count));
            }
            ggml_barrier(worker.pool);
        }
        if (common && worker.index == 0) {
            if (kept) {
                common->keep(*worker.operation, how);
            } else {
                common->reserve(bytes);
            }
        }
        const size_t per_strip = strip_groups(matrix.layout);
        const size_t per_task = std::clamp<size_t>(n_groups() * order.n_segments / (4 * worker.count * per_strip) * per_strip, per_strip, groups_per_task);
        const size_t per_segment = (n_groups() + per_task - 1) / per_task;
        const size_t n_tasks = per_segment * order.n_segments;
        size_t segment = 0, first_panel = 0;
        for (size_t task = worker.index; task < n_tasks;) {
            for (; segment < task / per_segment; ++segment) { // tasks come in rising order
                first_panel += (order.segments[segment].count + panel_columns - 1) / panel_columns;
            }
            multiply_task(order, order.segments[segment], panels + first_panel, task % per_segment * per_task, per_task, expanded);
            task = worker.pool ? static_cast<size_t>(ggml_threadpool_chunk_add(worker.pool, 1)) : task + worker.count;
        }
    }

    void multiply_task(const Order & order, const Segment & segment, const PanelPlace * panels, size_t first, size_t n, uint8_t * room) const {
        const size_t last = std::min(n_groups(), first + n);
        for (size_t i = 0; i < segment.count; i += panel_columns) {
            multiply(segment.matrix, first, last, panels[i / panel_columns].panel(), order.products + segment.first + i, room, i > 0);
        }
    }
};

size_t private_bytes(const Kernels & kernels, const PackedMatrix & matrix, size_t n_products) {
    return order_bytes(matrix, n_products) +
           std::max(few * column_bytes(kernels, matrix) + expanded_bytes(kernels, matrix),
                    aligned((panels_at_most(matrix, n_products) + 1) * sizeof(PanelPlace)) + aligned(expanded_bytes(kernels, matrix)));
}

} // namespace

size_t matmul_scratch(const Kernels & kernels, const PackedMatrix & matrix, size_t n_products, size_t n_threads) {
    const size_t shared = panels_at_most(matrix, n_products) * panel_place(matrix, panel_columns, nullptr).bytes();
    return 64 + n_threads * private_bytes(kernels, matrix, n_products) + shared;
}

void matmul(const Kernels & kernels, const PackedMatrix & matrix, const Columns & in, const Columns & out, const Routing & routing, size_t n_products, void * scratch, const Worker & worker) {
    auto * const base = reinterpret_cast<uint8_t *>((reinterpret_cast<uintptr_t>(scratch) + 63) & ~uintptr_t{63});
    const size_t own = private_bytes(kernels, matrix, n_products);
    Scratch mine{base + worker.index * own};
    const Order order = sort(matrix, routing, n_products, mine);
    const CodedKernels * const coded = coded_kernels(kernels, matrix.layout);
    const bool direct = coded && coded->multiply && order.largest <= direct_columns;
    const Job job{kernels, matrix, in, out, routing, worker, base + worker.count * own, coded, direct};
    if (order.largest <= few && n_products <= few_in_all) {
        job.few_products(order, mine);
    } else {
        job.many_products(order, mine);
    }
}

} // namespace ternion::kernels
