// Weights that are drawn from by some threads and changed by others.
#include "cpu/sampling/weights.h"

#include "cpu/support/parallel.h"
#include "jobs.h"

namespace {

using subgrad::Weights;

// Draws while the weights go back and forth between even and odd rows: a draw sees either all of a
// change or nothing of it, so its rows are of one kind.
void draw_while_changing(std::int64_t n, std::int64_t count, std::int64_t distinct) {
  std::vector<std::int64_t> all(static_cast<std::size_t>(n));
  std::vector<double> even(all.size()), odd(all.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    all[i] = static_cast<std::int64_t>(i);
    even[i] = i % 2 == 0 ? 1.0 + static_cast<double>(i % 7) : 0.0;
    odd[i] = i % 2 == 1 ? 1e6 : 0.0;
  }
  Weights weights(even, 7.0);
  const auto of_one_kind = [](const std::vector<std::int64_t>& rows) {
    for (const std::int64_t row : rows) require(row % 2 == rows[0] % 2, "a draw from two states");
  };
  at_once(4, [&](int i) {
    const auto key = static_cast<std::uint64_t>(i);
    std::vector<std::int64_t> rows(static_cast<std::size_t>(count));
    std::vector<std::int64_t> others(static_cast<std::size_t>(distinct));
    for (int turn = 0; turn < 12; ++turn) {
      if (i == 0) {
        const auto& next = turn % 2 == 0 ? odd : even;
        require(weights.update(all.data(), next.data(), n), "an update");
        const double nothing = 0.0;
        const std::int64_t row = turn % 2;  // it was nothing already
        require(weights.update(&row, &nothing, 1) || n == 1, "a small update");
      } else {
        weights.draw(key, static_cast<std::uint64_t>(turn), count, rows.data());
        of_one_kind(rows);
        weights.draw_distinct(key, distinct, others.data());
        of_one_kind(others);
      }
    }
  });
}

}  // namespace

void weight_jobs() {
  for (const int threads : {1, 4}) {
    subgrad::set_num_threads(threads);
    draw_while_changing(100, 50, 5);
    draw_while_changing(100, 50, 40);           // by the race of all
    draw_while_changing(70'000, 40'000, 1000);  // a table of several blocks, draws of several slots
  }
}
