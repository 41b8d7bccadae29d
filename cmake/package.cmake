# `make deb`: what a user runs, as a Debian package for machines with this one's CPU (llama.cpp is built for it).
include(GNUInstallDirs)
install(TARGETS aurora aurora-train RUNTIME)
install(FILES deploy/systemd/aurora.service DESTINATION lib/systemd/system)
install(FILES README.md docs/flags.md docs/live-page.md DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/aurora-serve)
install(FILES deploy/grafana/aurora.json deploy/prometheus/alerts.yml DESTINATION ${CMAKE_INSTALL_DATADIR}/aurora)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME aurora-serve)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_CONTACT "the Aurora developers")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "llama-server with a draft model that learns from its traffic")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "libopenblas0-pthread")  # another BLAS would do, at a hundredth of the speed
include(CPack)
