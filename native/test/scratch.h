// A folder that is gone with the test.
#pragma once

#include <filesystem>
#include <random>
#include <string>

class Scratch {
  public:
    Scratch() {
        std::random_device random;
        path_ = std::filesystem::temp_directory_path() / ("ternion-test-" + std::to_string(random()) + std::to_string(random()));
        std::filesystem::create_directories(path_);
    }
    ~Scratch() { std::filesystem::remove_all(path_); }
    Scratch(const Scratch &) = delete;
    Scratch & operator=(const Scratch &) = delete;

    const std::filesystem::path & path() const { return path_; }
    std::string operator/(const std::string & name) const { return (path_ / name).string(); }

  private:
    std::filesystem::path path_;
};
