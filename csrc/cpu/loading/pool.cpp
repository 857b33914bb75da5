#include "cpu/loading/pool.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace subgrad {
namespace {

// Whether a spare block serves: large enough, and not so large that a small batch that is kept for
// long would hold on to the memory of a large one.
bool serves(std::size_t capacity, std::size_t bytes) {
  return capacity >= bytes && capacity - bytes <= bytes / 4 + 64;
}

// Takes out what makes room: of an epoch's batches the last, if it is smaller than all others. But
// the sizes of batches may have changed, so what stays must be used again to stay for long.
std::unique_ptr<PoolBlock> least_used(std::vector<std::unique_ptr<PoolBlock>>& spare) {
  const auto least = std::min_element(
      spare.rbegin(), spare.rend(), [](const auto& a, const auto& b) { return a->uses < b->uses; });
  std::unique_ptr<PoolBlock> block = std::move(*least);
  spare.erase(std::next(least).base());
  for (const auto& kept : spare) kept->uses /= 2;
  return block;
}

}  // namespace

void GiveBack::operator()(PoolBlock* block) const {
  const std::shared_ptr<BlockPool> pool = std::move(block->pool);
  pool->give_back(std::unique_ptr<PoolBlock>(block));
}

HeldBlock BlockPool::take(std::size_t bytes) {
  std::unique_ptr<PoolBlock> block;
  {
    Blocks& blocks = blocks_.get();
    const std::lock_guard lock(blocks.mutex);
    const auto found = std::find_if(blocks.spare.rbegin(), blocks.spare.rend(), [&](const auto& b) {
      return serves(b->memory.bytes(), bytes);
    });
    if (found != blocks.spare.rend()) {
      block = std::move(*found);
      blocks.spare.erase(std::next(found).base());
    }
    ++blocks.on_their_way;
  }
  HeldBlock held(block ? block.release() : new PoolBlock{});
  held->pool = shared_from_this();
  held->shown = false;
  ++held->uses;
  if (held->memory.data() == nullptr) held->memory = Pages(bytes);
  return held;
}

PoolBlock* BlockPool::show(HeldBlock block) {
  Blocks& blocks = block->pool->blocks_.get();
  const std::lock_guard lock(blocks.mutex);
  if (blocks.on_their_way > 0) --blocks.on_their_way;
  block->shown = true;
  return block.release();
}

// What is not kept is freed without the lock: to unmap much memory takes long.
void BlockPool::give_back(std::unique_ptr<PoolBlock> block) {
  Blocks& blocks = blocks_.get();
  const std::lock_guard lock(blocks.mutex);
  if (!block->shown && blocks.on_their_way > 0) --blocks.on_their_way;
  if (block->memory.data() == nullptr || most_ <= blocks.on_their_way) return;
  blocks.spare.push_back(std::move(block));
  if (blocks.spare.size() > most_ - blocks.on_their_way) block = least_used(blocks.spare);
}

void BlockPool::close() {
  std::vector<std::unique_ptr<PoolBlock>> spare;
  Blocks& blocks = blocks_.get();
  const std::lock_guard lock(blocks.mutex);
  most_ = 0;
  spare.swap(blocks.spare);
}

std::size_t BlockPool::spare() {
  Blocks& blocks = blocks_.get();
  const std::lock_guard lock(blocks.mutex);
  return blocks.spare.size();
}

}  // namespace subgrad
